"""Trials that begin whenever a place becomes free: crashes, and their order of completion."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from crashes import every_crash, not_synchronized
from fake_executor import MADE, known_as_fake
from fake_search import files, found, replayed, search, with_curve

from lm_searcher.agent.loop.request_files import Request, submit
from lm_searcher.agent.study.events import End
from lm_searcher.agent.study.stored_run import stored_log, stored_run
from lm_searcher.spaces.errors import StoreError

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, not_synchronized():
        known_as_fake(patch)
        yield


def finished(place: Path) -> set[int]:
    """The trials that a dead run has finished."""
    try:
        return {event.trial for event in stored_log(files(place)) if isinstance(event, End)}
    except StoreError:  # it had not begun
        return set()


def left_of(order: Sequence[Sequence[int]], done: set[int]) -> list[list[int]]:
    """What is still to end of an order of completion."""
    return [list(keys) for keys in order if not set(keys) <= done and min(keys) >= 0]


SEVERAL: dict[str, Any] = {
    "objectives": [
        {"metric": "value", "direction": "max"},
        {"metric": "cost", "direction": "min"},
    ]
}


@pytest.mark.parametrize(
    ("workers", "more"),
    [(3, {}), (8, {}), (17, {"trials": 30}), (4, SEVERAL)],
    ids=["3", "8", "17", "several objectives"],
)
def test_the_order_of_completion_played_back_after_a_crash(
    tmp_path: Path, workers: int, more: dict[str, Any]
) -> None:
    """At any commit: what still runs ends as it did in the run that did not die."""
    places = {"workers": workers, "window": 0.3}
    keywords = {"trials": 14, "ranker": "evolution", **more}
    search(tmp_path, fake=places, **keywords).run()
    whole, order = found(tmp_path), MADE[-1].ended
    assert order != sorted(order) and max(map(len, order)) > 1, "unequal lengths, and ties"
    assert max(ask.n for ask in whole.asks[1:]) > 1 and whole.decisions

    def run(place: Path) -> None:
        left = left_of(order, finished(place))
        search(place, fake=places | {"order": left}, **keywords).run()

    for moment, place in every_crash(tmp_path, run):
        run(place)
        assert found(place) == whole, moment


def test_the_order_decides_and_nothing_else(tmp_path: Path) -> None:
    """Lengths, and where each trial ran, do not."""
    search(tmp_path / "one", fake={"workers": 4, "seed": 1}).run()
    order = left_of(MADE[-1].ended, set())
    search(tmp_path / "same", fake={"workers": 4, "seed": 2, "order": order}).run()
    search(tmp_path / "other", fake={"workers": 4, "seed": 2}).run()
    one, same, other = (found(tmp_path / name) for name in ("one", "same", "other"))
    assert one == same and one.asks != other.asks


CONSISTENT: dict[str, dict[str, Any]] = {
    "3": {"fake": {"workers": 3}},
    "8": {"fake": {"workers": 8, "window": 0.2}},
    "losses": {"fake": {"workers": 4, "losses": 0.3, "doomed": [2, 5], "unsteady": True}},
    "pruner": {
        "evaluator": with_curve,
        "pruner": {"name": "successive_halving", "reduction_factor": 2},
        "fake": {"workers": 3, "losses": 0.2},
    },
}


@pytest.mark.parametrize("name", CONSISTENT)
def test_a_run_is_consistent_after_a_crash(tmp_path: Path, name: str) -> None:
    """At any commit, whatever the order afterwards: nothing is lost or doubled, and each decision
    follows from the log."""
    keywords = CONSISTENT[name] | {"confirm": {"top": 0}}
    fake, seeds = keywords.pop("fake"), itertools.count()
    template = tmp_path / "template"
    template.mkdir()
    for request in (
        Request(action="pick", ncode="0000"),
        Request(action="prune", position=1, option=4),
        Request(action="pick", ncode="1111"),
    ):
        submit(files(template), request)

    def run(place: Path) -> None:
        search(place, fake=fake | {"seed": next(seeds)}, **keywords).run()

    crashes = 0
    for moment, place in every_crash(tmp_path, run, partial(shutil.copytree, template)):
        run(place)
        whole, replay = found(place), replayed(place)
        assert len(whole.trials) == 9 and all(t.state.finished for t in whole.trials), moment
        assert {"0000", "1111"} <= {t.ncode for t in whole.trials}, moment
        assert replay.difference is None, moment
        assert replay.decisions >= len(whole.asks) and not replay.skipped
        places = {trial.place for trial in stored_run(files(place)).trials}
        assert len(places) > 1 and all(where.startswith("gpu ") for where in places)
        crashes += 1
    assert crashes > 12
