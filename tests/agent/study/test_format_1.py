"""A run that was stored before the records were typed (format 1) opens, shows and goes on.

data/run-of-format-1.tar.xz holds what commit 0918979 left of `lm-searcher run legacy.toml`: killed
in trial 28, with requests taken up before and two that wait. Of format 1 are the stop's text and a
checkpoint whose state had the subspace in it. The same version, going on to 40 trials, made what is
expected here.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from lm_searcher.agent.results.result import Result, read_run
from lm_searcher.agent.search import Search
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.stop import StopReason
from lm_searcher.spaces.history import TrialState

ARCHIVE = Path(__file__).parent / "data" / "run-of-format-1.tar.xz"

TEXT = """
443334 243241 320043 343433 421232 343443 443443 343403 323403 343003
243403 342403 333403 343413 303403 344443 222222 343203 343103 343423
343013 303443 111111 343402 343401 243401 342401 313403 444444 343404
340443 343414 443414 343114 312403 343434 313434 314434 343014 333434
"""
NCODES = TEXT.split()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "runs").mkdir()
    (tmp_path / "snapshot").rename(tmp_path / "runs" / "legacy")
    return tmp_path


def read(folder: Path) -> Result:
    return read_run(RunFiles.of("legacy", folder / "runs", None))


def test_it_is_read(folder: Path) -> None:
    result = read(folder)
    assert result.state == "interrupted" and result.stop is None
    assert [t.ncode for t in result.trials] == NCODES[:28]
    assert all(t.state is TrialState.COMPLETE for t in result.trials)
    asked = [(d["action"], d["trial"]) for d in result.decisions if d.get("by") == "hand"]
    assert asked == [("prune", 16), ("widen", 22)]
    assert [pick.ncode for pick in result.records.picks.values()] == ["222222", "111111"]
    assert sorted(result.records.confirmed()) == [5, 7]
    assert result.incumbent is not None and result.incumbent.ncode == "343403"


def test_it_goes_on_as_it_would_have(folder: Path) -> None:
    again = Search.from_file(folder / "legacy.toml", overrides={"budget": {"trials": 40}}).run()
    assert [t.ncode for t in again.trials] == NCODES
    assert again.stop is not None and again.stop.reason is StopReason.TRIALS
    assert again.subspace.size == 10_000 and len(again.decisions) == 4
    assert again.incumbent is not None and again.incumbent.ncode == "343414"
    assert read(folder).stop == again.stop


@pytest.mark.parametrize("lost", ["legacy.checkpoints"])
def test_its_checkpoint_is_no_loss(folder: Path, lost: str) -> None:
    (folder / "runs" / "legacy" / f"trials.db.{lost}").unlink()
    again = Search.from_file(folder / "legacy.toml", overrides={"budget": {"trials": 40}}).run()
    assert [t.ncode for t in again.trials] == NCODES
