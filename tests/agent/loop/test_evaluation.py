"""What becomes of evaluations: places that are lost, ends that are told twice, Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from crashes import not_synchronized
from fake_executor import MADE, known_as_fake
from fake_search import files, found, replayed, search

from lm_searcher.agent.loop.stopping import Interrupted
from lm_searcher.agent.search import Search
from lm_searcher.agent.study.events import End, Lost
from lm_searcher.agent.study.stored_run import stored_log, stored_run
from lm_searcher.spaces.history import Trial, TrialState

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, not_synchronized():
        known_as_fake(patch)
        yield


# -- places that are lost -------------------------------------------------------------------------


def test_a_lost_place_is_another_attempt_of_the_same(tmp_path: Path) -> None:
    observed: list[Trial] = []

    def observe(event: Trial | str) -> None:
        if isinstance(event, Trial) and event.number == 4:
            observed.append(event)

    result = search(tmp_path, fake={"workers": 2, "doomed": [4]}, observe=observe).run()
    assert [trial.state is TrialState.FAIL for trial in result.trials] == [
        number == 4 for number in range(9)
    ]
    lost = result.trials[4]
    assert (lost.attempt, lost.reason) == (3, "lost its place 3 times, the last: place 3 burnt")
    tried = [(e, attempt) for e, attempt in MADE[-1].begun if e.key == 4]
    assert [attempt for _, attempt in tried] == [1, 2, 3]
    assert len({(e.ncode, e.seed) for e, _ in tried}) == 1
    log = stored_log(files(tmp_path))
    assert [(e.attempt, e.reason) for e in log if isinstance(e, Lost)] == [
        (1, "place 1 burnt"),
        (2, "place 2 burnt"),
    ]
    assert [(trial.state, trial.attempt, bool(trial.place)) for trial in observed] == [
        (TrialState.RUNNING, 1, False),
        (TrialState.RUNNING, 1, True),
        (TrialState.WAITING, 2, False),
        (TrialState.RUNNING, 2, False),
        (TrialState.RUNNING, 2, True),
        (TrialState.WAITING, 3, False),
        (TrialState.RUNNING, 3, False),
        (TrialState.RUNNING, 3, True),
        (TrialState.FAIL, 3, True),
    ]


def test_a_confirmation_that_loses_its_place(tmp_path: Path) -> None:
    search(tmp_path / "whole").run()
    whole, keys = found(tmp_path / "whole"), [e.key for e, _ in MADE[-1].begun if e.key < 0]
    assert len(keys) == 2
    search(tmp_path / "lossy", fake={"doomed": keys[:1]}).run()
    seeds = {evaluation.seed for evaluation, _ in MADE[-1].begun if evaluation.key == keys[0]}
    attempts = [attempt for evaluation, attempt in MADE[-1].begun if evaluation.key == keys[0]]
    assert attempts == [1, 2, 3] and len(seeds) == 1
    first, second = found(tmp_path / "lossy").confirmations.values()
    assert "lost its place 3 times" in first["reason"]
    assert second == list(whole.confirmations.values())[1]


def test_what_is_told_twice_counts_once(tmp_path: Path) -> None:
    """The first completion, and the loss of a place before the present one."""
    fake = {"workers": 3, "losses": 0.4, "doomed": [5]}
    search(tmp_path / "once", fake=fake).run()
    search(tmp_path / "twice", fake=fake | {"echo": True}).run()
    once, twice = found(tmp_path / "once"), found(tmp_path / "twice")
    assert max(trial.attempt for trial in once.trials) == 3
    assert [replace(t, place="") for t in once.trials] == twice.trials
    assert once == twice


# -- Ctrl-C ---------------------------------------------------------------------------------------


def interrupted_at(number: int, folder: Path, **keywords: Any) -> Search:
    """A search that gets a Ctrl-C as soon as trial `number` has finished."""

    def observe(event: Trial | str) -> None:
        if isinstance(event, Trial) and event.state.finished and event.number == number:
            signal.raise_signal(signal.SIGINT)

    return search(folder, observe=observe, **keywords)


@pytest.mark.parametrize("mode", ["async", "batch"])
def test_ctrl_c_gives_running_trials_a_time_to_end(tmp_path: Path, mode: str) -> None:
    """Of four, those that end within it are stored, the rest is evaluated when the run goes on."""
    fake = {"workers": 4, "mode": mode, "grace": 0.7, "seed": 3}
    with pytest.raises(Interrupted):
        interrupted_at(4, tmp_path, fake=fake).run()
    run = stored_run(files(tmp_path))
    waiting = [t.number for t in run.trials if t.state is TrialState.WAITING]
    began = len(MADE[-1].begun)
    assert 0 < len(waiting) < 3 and began == len(run.trials)
    ended = [event.trial for event in stored_log(files(tmp_path)) if isinstance(event, End)]
    assert sorted(ended) == [t.number for t in run.trials if t.state.finished]
    assert ended[-1] != 4, "another ended within the time"
    search(tmp_path, fake=fake).run()
    again = [evaluation.key for evaluation, _ in MADE[-1].begun]
    assert again[: len(waiting)] == waiting and all(attempt == 1 for _, attempt in MADE[-1].begun)
    whole = found(tmp_path)  # which checks that each trial has ended once
    assert len(whole.trials) == 9 and replayed(tmp_path).difference is None


def test_a_search_that_was_interrupted_runs_again(tmp_path: Path) -> None:
    """The same object, still open: while it searches, and while it confirms."""
    fake = {"workers": 2, "grace": 0.0}
    signals = iter([3, "confirming"])
    due = next(signals)

    def observe(event: Trial | str) -> None:
        nonlocal due
        now = event.startswith(str(due)) if isinstance(event, str) else event.number == due
        if now:
            due = next(signals, -1)
            signal.raise_signal(signal.SIGINT)

    with search(tmp_path, fake=fake, observe=observe) as mine:
        for _ in range(2):
            with pytest.raises(Interrupted):
                mine.run()
        mine.run()
    whole = found(tmp_path)
    assert len(whole.trials) == 9 and len(whole.confirmations) == 2 and whole.stop is not None
