"""A run that dies at any of its commits goes on as if it had not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from crashes import Crash, dying, every_crash, let_lease_expire, not_synchronized
from fake_executor import known_as_fake
from fake_search import SPACE, files, found, measure, replayed, search, with_curve

from lm_searcher.agent.loop.request_files import Request, submit
from lm_searcher.agent.study.stop import StopReason
from lm_searcher.spaces.errors import TrialFailure

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, not_synchronized():
        known_as_fake(patch)
        yield


def failing(config: dict[str, int], seed: int) -> dict[str, float]:
    """One in three cannot be measured."""
    if sum(config.values()) % 3 == 0:
        raise TrialFailure("divisible by three")
    return measure(config, seed)


SEVERAL: dict[str, Any] = {
    "objectives": [
        {"metric": "value", "direction": "max"},
        {"metric": "cost", "direction": "min"},
    ],
    "constraints": ["cost <= 11"],
}
BATCH = {"workers": 3, "mode": "batch", "window": 0.3}

EXACT: dict[str, dict[str, Any]] = {
    "one worker": {},
    "batch": {"fake": BATCH},
    "batch of other size": {"fake": BATCH | {"batch": 4, "unsteady": True}},
    "losses": {"fake": BATCH | {"losses": 0.3, "doomed": [4]}},
    "several objectives": {"fake": BATCH, **SEVERAL},
    "pruner": {"evaluator": with_curve, "pruner": {"name": "median"}, "trials": 6},
    "failures": {"evaluator": failing, "fake": BATCH, "budget": {"failures": 3}},
}


@pytest.mark.parametrize("name", EXACT)
def test_a_crash_at_any_commit_changes_nothing(tmp_path: Path, name: str) -> None:
    check_crashes(tmp_path, Path.mkdir, **EXACT[name])


def check_crashes(
    folder: Path, prepare: Callable[[Path], object], before: bool = False, **keywords: Any
) -> None:
    """Die at each commit, go on, and compare with a run that did not die."""

    def run(place: Path) -> None:
        search(place, **keywords).run()

    prepare(folder / "whole")
    run(folder / "whole")
    whole, crashes = found(folder / "whole"), 0
    assert whole.stop is not None
    for moment, place in every_crash(folder, run, prepare, before):
        run(place)
        assert found(place) == whole, moment
        assert replayed(place).difference is None, moment
        crashes += 1
    assert crashes > len(whole.asks)


# -- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fake", [{}, BATCH], ids=["one worker", "batch"])
def test_requests_survive_a_crash(tmp_path: Path, fake: dict[str, Any]) -> None:
    template = tmp_path / "template"
    template.mkdir()
    for request in (
        Request(action="prune", position=1, option=4),
        *(Request(action="pick", ncode=ncode) for ncode in ("0000", "3333", "9999")),
        Request(action="widen", position=1, option=4),
        Request(action="prune", position=0, option=0),
    ):
        submit(files(template), request)
    copy = partial(shutil.copytree, template)
    check_crashes(tmp_path, copy, before=True, fake=fake, confirm={"top": 0}, trials=7)
    whole = found(tmp_path / "whole")
    assert [trial.ncode for trial in whole.trials[:2]] == ["0000", "3333"]
    assert ["refused" in request for request in whole.requests.values()] == [False, False, True]
    assert len(whole.decisions) >= 3


def test_an_extra_request_survives_a_crash(tmp_path: Path) -> None:
    """Picks beyond the end, one of which is refused: nothing else is evaluated, and why the search
    had ended stays."""
    template, patience = tmp_path / "template", {"trials": 20, "patience": 3}
    search(template, budget=patience).run()
    ended = found(template)
    for ncode in ("0000", ended.trials[0].ncode, "1111"):
        submit(files(template), Request(action="pick", ncode=ncode, extra=True))
    check_crashes(tmp_path, partial(shutil.copytree, template), before=True, budget=patience)
    whole = found(tmp_path / "whole")
    assert ended.stop is not None and ended.stop.reason is StopReason.PATIENCE
    assert whole.stop == ended.stop
    assert [t.ncode for t in whole.trials[len(ended.trials) :]] == ["0000", "1111"]


# -- ask and tell ---------------------------------------------------------------------------------


def asking(place: Path) -> None:
    """A program that asks for one or two architectures, and tells their results, the later first.
    What was asked for and not told is told when the program is started again."""
    with search(place, None, fake=BATCH, trials=8) as mine:
        while True:
            trials = mine.result().trials
            for trial in reversed(trials):
                if not trial.state.finished:
                    mine.tell(trial.number, measure(SPACE.decode(trial.ncode), trial.seed))
            if len(trials) >= 8:
                return
            mine.ask(1 + len(trials) % 2)


def test_ask_and_tell_survive_a_crash(tmp_path: Path) -> None:
    asking(tmp_path / "whole")
    whole = found(tmp_path / "whole")
    assert all(trial.state.finished for trial in whole.trials)
    for moment, place in every_crash(tmp_path, asking, before=True):
        asking(place)
        assert found(place) == whole, moment
        assert replayed(place).difference is None, moment


# -- again and again ------------------------------------------------------------------------------


@pytest.mark.parametrize("fake", [{}, BATCH | {"losses": 0.2}], ids=["one worker", "batch"])
def test_a_run_that_dies_again_and_again(tmp_path: Path, fake: dict[str, Any]) -> None:
    search(tmp_path / "whole", fake=fake).run()
    place, deaths = tmp_path / "killed", 0
    while True:
        with dying(7, written=True):
            try:
                search(place, fake=fake).run()
            except Crash:
                deaths += 1
            else:
                break
        let_lease_expire(place / "run" / "trials.db")
    assert found(place) == found(tmp_path / "whole") and deaths > 3
