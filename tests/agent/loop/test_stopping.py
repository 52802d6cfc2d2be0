from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lm_searcher.agent.loop.stopping import (
    Budget,
    Interrupted,
    find_stop,
    stagnant_trials,
    trailing_failures,
)
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.stop import Stop, StopReason
from lm_searcher.spaces.history import History, Trial, TrialState


def history(scores: list[float]) -> History:
    values = np.array(scores, float)
    n = len(values)
    return History(np.zeros((n, 1), np.uint8), values, np.isnan(values), np.zeros(n, bool))


NAN = float("nan")


def reason(
    scores: list[float],
    seconds: float = 0.0,
    sign: float = 1.0,
    forgiven: int = 0,
    **budget: Any,
) -> Stop | None:
    trials = [Trial(i, "0", TrialState.FAIL, reason=f"r{i}") for i in range(len(scores))]
    objectives = ObjectiveSet.of("value", "max" if sign > 0 else "min")
    limits = Budget(**budget)
    return find_stop(
        limits, history(scores), trials, objectives, seconds=seconds, forgiven=forgiven
    )


@pytest.mark.parametrize(
    ("scores", "budget", "expected"),
    [
        ([], {}, None),
        ([1.0], {"trials": 2}, None),
        ([1.0, 2.0], {"trials": 2}, StopReason.TRIALS),
        ([1.0, 2.0, 3.0], {"trials": 2}, StopReason.TRIALS),
        ([1.0] * 200, {"trials": None, "hours": 1.0}, None),
        ([1.0], {"target": 1.5}, None),
        ([1.0, 1.5], {"target": 1.5}, StopReason.TARGET),
        ([9.0, 1.0], {"target": 1.5}, StopReason.TARGET),
        ([NAN], {"target": 1.5}, None),
        ([1.0, 0.0, 0.0], {"patience": 3}, None),
        ([1.0, 0.0, 0.0, 1.0], {"patience": 3}, StopReason.PATIENCE),
        ([1.0, 0.0, 0.0, 2.0], {"patience": 3}, None),
        ([NAN, NAN, NAN, NAN], {"patience": 3, "failures": 9}, None),
        ([1.0, NAN, NAN, NAN], {"patience": 3, "failures": 9}, StopReason.PATIENCE),
        ([NAN] * 9, {}, None),
        ([NAN] * 10, {}, StopReason.FAILURES),
        ([NAN] * 5 + [1.0] + [NAN] * 9, {}, None),
        ([1.0] + [NAN] * 2, {"failures": 2}, StopReason.FAILURES),
    ],
)
def test_when_a_search_ends(
    scores: list[float], budget: dict[str, Any], expected: StopReason | None
) -> None:
    stop = reason(scores, **budget)
    assert (stop and stop.reason) == expected


def test_hours() -> None:
    assert reason([1.0], seconds=3599, hours=1.0) is None
    for hours in (1.0, 0.5):
        stop = reason([1.0], seconds=3600 * hours, hours=hours)
        assert stop == Stop(reason=StopReason.HOURS, limit=hours)


def test_a_target_below_when_less_is_better() -> None:
    assert reason([-2.0], sign=-1.0, target=1.5) is None
    stop = reason([-1.5], sign=-1.0, target=1.5)
    assert stop == Stop(reason=StopReason.TARGET, limit=1.5)


def test_failures_are_told_before_a_spent_budget() -> None:
    stop = reason([NAN] * 10, trials=10)
    assert stop == Stop(reason=StopReason.FAILURES, limit=10, detail="r9")


def test_counts() -> None:
    assert trailing_failures(history([])) == 0 and stagnant_trials(history([])) == 0
    assert trailing_failures(history([1, NAN, 2, NAN, NAN])) == 2
    assert trailing_failures(history([NAN, NAN])) == 2
    assert stagnant_trials(history([3, 1, 3, 2])) == 3, "an equal is no new best"
    assert stagnant_trials(history([1, 3])) == 0 and stagnant_trials(history([NAN])) == 0


def waiting(scores: list[float], pending: list[int]) -> History:
    """The same, with some of those without a score pending instead of failed."""
    found = history(scores)
    mask = np.isin(np.arange(len(scores)), pending)
    return History(found.codes, found.scores, found.failed & ~mask, mask)


def test_pending_trials_are_neither_failures_nor_stagnation() -> None:
    assert trailing_failures(waiting([1, NAN, NAN, NAN, NAN], [3, 4])) == 2
    assert trailing_failures(waiting([1, NAN, NAN, NAN, NAN], [4])) == 3
    assert trailing_failures(waiting([NAN] * 3, [0, 1, 2])) == 0
    assert stagnant_trials(waiting([3, 1, NAN, 2, NAN], [2, 4])) == 2
    assert stagnant_trials(waiting([3, NAN], [1])) == 0


def test_failures_between_trials_that_run_are_not_in_a_row() -> None:
    # Of many at a time, those that fail at once end first.
    assert trailing_failures(waiting([1] + [NAN] * 12, [2, 4, 6, 8, 10])) == 2
    # One that hangs does not hide that all others fail.
    assert trailing_failures(waiting([1] + [NAN] * 12, [3])) == 9
    assert trailing_failures(waiting([NAN] * 12, [3]), 6) == 6


def test_the_reason_of_the_latest_failure_is_told() -> None:
    trials = [Trial(i, "0", TrialState.FAIL, reason=f"r{i}") for i in range(12)]
    some = waiting([NAN] * 12, [11])
    stop = find_stop(Budget(), some, trials, ObjectiveSet.of("value"))
    assert stop == Stop(reason=StopReason.FAILURES, limit=11, detail="r10")


def test_an_interruption_passes_every_except_exception() -> None:
    assert issubclass(Interrupted, KeyboardInterrupt) and not issubclass(Interrupted, Exception)


def test_failures_before_a_new_beginning_do_not_count() -> None:
    assert reason([NAN] * 10)
    assert not reason([NAN] * 10, forgiven=10)
    assert not reason([NAN] * 19, forgiven=10)
    stop = reason([NAN] * 20, forgiven=10)
    assert stop is not None and stop.failed and stop.limit == 10
