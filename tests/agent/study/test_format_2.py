"""A run of format 2, an Optuna study, opens, shows and goes on; so does its migration.

data/run-of-format-2.tar.xz holds what commit 6e64d12 left of `lm-searcher run earlier.toml`: 16
trials with their confirmations, then on towards 28 and killed in trial 21. A pick and a prune by
hand were taken up before, memory pruned, and a pick and a widening wait. The same version, going
on to 28 trials, made what is expected here.
"""

from __future__ import annotations

import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from postgres import Postgres

from lm_searcher.agent.results.result import Result, read_run
from lm_searcher.agent.search import Search
from lm_searcher.agent.study.events import Migrated, Recorded
from lm_searcher.agent.study.migration import migrate_run
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.stop import StopReason
from lm_searcher.agent.study.stored_run import has_run, stored_log, studies
from lm_searcher.spaces.errors import StoreError
from lm_searcher.spaces.history import TrialState
from lm_searcher.tools.files import file_lock

ARCHIVE = Path(__file__).parent / "data" / "run-of-format-2.tar.xz"

TEXT = """
222222 432304 211321 402442 200233 432301 433304 413304 413204 413004
213304 443304 443334 443302 443104 442304 443344 444304 443324 444204
443314 444314 111111 434304 443204 244304 433314 413314
"""
NCODES = TEXT.split()
LEFT = 22
"""Trials when the process was killed, the last of them under way."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "runs").mkdir()
    (tmp_path / "snapshot").rename(tmp_path / "runs" / "earlier")
    return tmp_path


@pytest.fixture
def files(folder: Path) -> RunFiles:
    return RunFiles.of("earlier", folder / "runs", None)


def check_as_it_was_left(result: Result) -> None:
    assert result.state == "interrupted" and result.stop is None
    assert [t.ncode for t in result.trials] == NCODES[:LEFT]
    states = [t.state for t in result.trials]
    assert states == [TrialState.COMPLETE] * (LEFT - 1) + [TrialState.WAITING]
    by_hand = [(d["action"], d["trial"]) for d in result.decisions if d.get("by") == "hand"]
    assert by_hand == [("prune", 6)] and len(result.decisions) == 10
    assert [pick.ncode for pick in result.records.picks.values()] == ["222222"]
    assert sorted(result.records.confirmed()) == [7, 11] and result.subspace.size == 1080
    assert result.incumbent is not None and result.incumbent.ncode == "443304"


def check_as_it_would_have_gone_on(result: Result) -> None:
    assert [t.ncode for t in result.trials] == NCODES
    assert all(t.state is TrialState.COMPLETE for t in result.trials)
    assert result.stop is not None and result.stop.reason is StopReason.TRIALS
    assert result.subspace.size == 1440 and len(result.decisions) == 11
    assert [pick.ncode for pick in result.records.picks.values()] == ["222222", "111111"]
    assert sorted(result.records.confirmed()) == [7, 11, 17, 21]
    assert result.incumbent is not None and result.incumbent.ncode == "444304"
    assert result.attributes["format"] == 3


def go_on(folder: Path, **overrides: Any) -> Result:
    given = {"budget": {"trials": 28}, **overrides}
    return Search.from_file(folder / "earlier.toml", overrides=given).run()


def test_it_is_read_and_not_written_to(files: RunFiles) -> None:
    path = files.folder / "trials.db"
    before = path.read_bytes()
    check_as_it_was_left(read_run(files))
    assert has_run(files.url, "earlier") and studies(files.url) == ["earlier"]
    assert path.read_bytes() == before


@pytest.mark.slow
def test_it_goes_on_as_it_would_have(folder: Path, files: RunFiles) -> None:
    again = go_on(folder)
    check_as_it_would_have_gone_on(again)
    check_as_it_would_have_gone_on(read_run(files))


@pytest.mark.slow
def test_its_checkpoint_is_no_loss(folder: Path, files: RunFiles) -> None:
    (files.folder / "trials.db.earlier.checkpoints").unlink()
    check_as_it_would_have_gone_on(go_on(folder))


@pytest.mark.slow
def test_migrated_beforehand_it_goes_on_just_so(folder: Path, files: RunFiles) -> None:
    before = read_run(files)
    assert migrate_run(files) == Migrated(trials=LEFT, format=2)
    assert migrate_run(files) is None
    after = read_run(files)
    check_as_it_was_left(after)
    assert list(after.trials) == list(before.trials)
    assert dict(after.attributes) == {**before.attributes, "format": 3}
    *records, last = stored_log(files)
    assert last == Migrated(trials=LEFT, format=2)
    assert all(isinstance(record, Recorded) for record in records)
    check_as_it_would_have_gone_on(go_on(folder))


def test_what_it_was_stays(files: RunFiles) -> None:
    def dump() -> list[str]:
        with closing(sqlite3.connect(files.folder / "trials.db")) as connection:
            return [line for line in connection.iterdump() if "lm_searcher_" not in line]

    before = dump()
    migrate_run(files)
    assert dump() == before and studies(files.url) == ["earlier"]


def test_while_an_earlier_version_drives_it_it_is_left_alone(files: RunFiles) -> None:
    with file_lock(files.lock), pytest.raises(StoreError, match="another process of an earlier"):
        migrate_run(files)
    assert migrate_run(files) is not None


def test_another_search_under_its_name_is_refused_and_nothing_migrated(
    folder: Path, files: RunFiles
) -> None:
    with pytest.raises(StoreError, match="has another seed: 3 there, 4 here"):
        go_on(folder, run={"seed": 4})
    with pytest.raises(StoreError, match="has no log"):
        stored_log(files)


def test_the_command(
    folder: Path,
    files: RunFiles,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lm_searcher.agent.cli.app import main

    def lm_searcher(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", ["lm-searcher", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    code, out, _ = lm_searcher("migrate", "earlier")
    assert code == 0 and "from format 2 to 3: 22 trials" in out and "stay as they are" in out
    code, out, _ = lm_searcher("migrate", "earlier", "--json")
    assert code == 0 and '"migrated": false' in out
    code, _, err = lm_searcher("migrate", "later")
    assert code == 2 and "no such file" in err and len(err.splitlines()) == 1
    assert not (folder / "runs" / "later").exists()


# -- on PostgreSQL -------------------------------------------------------------------------------


@pytest.fixture
def moved(files: RunFiles, postgres: Postgres) -> Iterator[RunFiles]:
    """The same study in PostgreSQL, beside another program's."""
    import optuna

    url = postgres.url().replace("postgresql://", "postgresql+psycopg://")
    to = optuna.storages.RDBStorage(url)
    optuna.copy_study(from_study_name="earlier", from_storage=files.url, to_storage=to)
    optuna.create_study(study_name="theirs", storage=to).add_trial(
        optuna.trial.create_trial(value=1.0)
    )
    yield RunFiles("earlier", url, files.folder.parent / "moved")
    to.remove_session()
    to.engine.dispose()


@pytest.mark.slow
def test_on_postgresql_too(folder: Path, files: RunFiles, moved: RunFiles) -> None:
    check_as_it_was_left(read_run(moved))
    assert studies(moved.url) == ["earlier", "theirs"]
    assert has_run(moved.url, "earlier") and not has_run(moved.url, "theirs")
    requests = RunFiles.of("earlier", folder / "runs", moved.url).requests
    requests.parent.mkdir(exist_ok=True)
    shutil.copytree(files.requests, requests)
    check_as_it_would_have_gone_on(go_on(folder, store={"url": moved.url}))
    with pytest.raises(StoreError, match="study 'theirs' is no run that has begun"):
        read_run(RunFiles("theirs", moved.url, folder))
    with pytest.raises(StoreError, match="holds trials of another program"):
        go_on(folder, store={"url": moved.url}, run={"name": "theirs"})
