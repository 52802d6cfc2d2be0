from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lm_searcher.agent.loop.stopping import Interrupted, stale, stop_reason, trailing_failures
from lm_searcher.agent.state import Budget
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.history import History, Trial, TrialState


def history(scores: list[float]) -> History:
    values = np.array(scores, float)
    n = len(values)
    return History(np.zeros((n, 1), np.uint8), values, np.isnan(values), np.zeros(n, bool))


NAN = float("nan")


class Store(list[Trial]):
    """As much of a store as matters here."""

    objectives = ObjectiveSet.of("value")


def reason(
    scores: list[float],
    seconds: float = 0.0,
    sign: float = 1.0,
    forgiven: int = 0,
    **budget: Any,
) -> str:
    store = Store(Trial(i, "0", TrialState.FAIL, reason=f"r{i}") for i in range(len(scores)))
    store.objectives = ObjectiveSet.of("value", "max" if sign > 0 else "min")
    context: Any = SimpleNamespace(
        budget=Budget(**budget), store=store, forgiven=forgiven, requests=None
    )
    return stop_reason(context, history(scores), seconds)


@pytest.mark.parametrize(
    ("scores", "budget", "expected"),
    [
        ([], {}, ""),
        ([1.0], {"trials": 2}, ""),
        ([1.0, 2.0], {"trials": 2}, "the budget of 2 trials is spent"),
        ([1.0, 2.0, 3.0], {"trials": 2}, "the budget of 2 trials is spent"),
        ([1.0] * 200, {"trials": None, "hours": 1.0}, ""),
        ([1.0], {"target": 1.5}, ""),
        ([1.0, 1.5], {"target": 1.5}, "the target of 1.5 is reached"),
        ([9.0, 1.0], {"target": 1.5}, "the target of 1.5 is reached"),
        ([NAN], {"target": 1.5}, ""),
        ([1.0, 0.0, 0.0], {"patience": 3}, ""),
        ([1.0, 0.0, 0.0, 1.0], {"patience": 3}, "no new best in 3 trials"),
        ([1.0, 0.0, 0.0, 2.0], {"patience": 3}, ""),
        ([NAN, NAN, NAN, NAN], {"patience": 3, "failures": 9}, ""),
        ([1.0, NAN, NAN, NAN], {"patience": 3, "failures": 9}, "no new best in 3 trials"),
        ([NAN] * 9, {}, ""),
        ([NAN] * 10, {}, "10 failures in a row, the last: r9"),
        ([NAN] * 5 + [1.0] + [NAN] * 9, {}, ""),
        ([1.0] + [NAN] * 2, {"failures": 2}, "2 failures in a row, the last: r2"),
    ],
)
def test_when_a_search_ends(scores: list[float], budget: dict[str, Any], expected: str) -> None:
    assert reason(scores, **budget) == expected


def test_hours() -> None:
    assert reason([1.0], seconds=3599, hours=1.0) == ""
    assert reason([1.0], seconds=3600, hours=1.0) == "the budget of 1 hours is spent"
    assert reason([1.0], seconds=1800, hours=0.5) == "the budget of 0.5 hours is spent"


def test_a_target_below_when_less_is_better() -> None:
    assert reason([-2.0], sign=-1.0, target=1.5) == ""
    assert reason([-1.5], sign=-1.0, target=1.5) == "the target of 1.5 is reached"


def test_failures_are_told_before_a_spent_budget() -> None:
    assert "failures in a row" in reason([NAN] * 10, trials=10)


def test_counts() -> None:
    assert trailing_failures(history([])) == 0 and stale(history([])) == 0
    assert trailing_failures(history([1, NAN, 2, NAN, NAN])) == 2
    assert trailing_failures(history([NAN, NAN])) == 2
    assert stale(history([3, 1, 3, 2])) == 3, "an equal is no new best"
    assert stale(history([1, 3])) == 0 and stale(history([NAN])) == 0


def test_an_interruption_passes_every_except_exception() -> None:
    assert issubclass(Interrupted, KeyboardInterrupt) and not issubclass(Interrupted, Exception)


def test_failures_before_a_new_beginning_do_not_count() -> None:
    assert reason([NAN] * 10)
    assert not reason([NAN] * 10, forgiven=10)
    assert not reason([NAN] * 19, forgiven=10)
    assert reason([NAN] * 20, forgiven=10).startswith("10 failures in a row")
