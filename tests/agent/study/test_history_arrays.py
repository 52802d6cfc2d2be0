"""The arrays of a growing history tell what the trials tell, and a history never changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lm_searcher.agent.study import history_arrays as module
from lm_searcher.agent.study.history_arrays import HistoryArrays
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.constraints import Constraint
from lm_searcher.spaces.history import History, Trial, TrialState
from lm_searcher.spaces.ncode import to_ncodes
from lm_searcher.spaces.objectives import Goal
from lm_searcher.spaces.space import SearchSpace

SPACE = SearchSpace.of("s", {f"p{i}": list("abcd") for i in range(5)})
OBJECTIVES = {
    "one": ObjectiveSet.of("value"),
    "minimised": ObjectiveSet.of("value", "min"),
    "constrained": ObjectiveSet((Goal("value"),), (Constraint.parse("cost <= 0.5"),)),
    "several": ObjectiveSet((Goal("value"), Goal("cost", "min"))),
}
FIELDS = ("codes", "scores", "failed", "pending", "values")


def same(a: History, b: History) -> bool:
    pairs = [(getattr(a, name), getattr(b, name)) for name in FIELDS]
    return all(
        (x is None and y is None) or np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        for x, y in pairs
    )


def ended(trial: Trial, objectives: ObjectiveSet, rng: np.random.Generator, stop: bool) -> Trial:
    """The trial with some outcome."""
    if rng.random() < 0.15:
        return replace(trial, state=TrialState.FAIL, reason="r")
    metrics = {"value": float(rng.integers(0, 20)), "cost": float(rng.random())}
    values = objectives.values(metrics)
    stopped = stop and rng.random() < 0.3
    return replace(
        trial,
        state=TrialState.PRUNED if stopped else TrialState.COMPLETE,
        value=values[0],
        values=values,
        violation=objectives.violation(metrics),
        curve=tuple(rng.normal(size=1 if stopped else 3)) if stop else (),
    )


@pytest.mark.parametrize("stop", [False, True], ids=["whole", "stopped early"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_history_of_any_run(name: str, stop: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEADERS", 6)
    objectives, rng = OBJECTIVES[name], np.random.default_rng(0)
    weights = np.array([0.3, 0.7]) if objectives.several else None
    arrays, trials, running = HistoryArrays(SPACE, objectives), list[Trial](), list[int]()
    kept: list[tuple[History, History]] = []
    for ncode in to_ncodes(SPACE.sample(150, rng)):
        arrays.extend([Trial(len(trials), ncode)])
        running.append(len(trials))
        trials.append(Trial(len(trials), ncode))
        while running and rng.random() < 0.5:  # in whichever order they finish
            number = running.pop(int(rng.integers(len(running))))
            trials[number] = ended(trials[number], objectives, rng, stop)
            arrays.update(trials[number])
        n = int(rng.integers(0, len(trials) + 1)) if rng.random() < 0.5 else None
        found = arrays.history(n, weights)
        expected = objectives.history(SPACE, trials[:n], weights)
        assert same(found, expected)
        for k in (1, 3, 6, 20):
            assert found.elites(k).tolist() == expected.elites(k).tolist()
        kept.append((found, expected))
    assert all(same(found, expected) for found, expected in kept), "none has changed"


def test_a_trial_that_loses_its_value_leads_no_more() -> None:
    arrays = HistoryArrays(SPACE, OBJECTIVES["one"])
    done = [Trial(i, "00000", TrialState.COMPLETE, float(i), values=(float(i),)) for i in range(3)]
    for trial in done:
        arrays.extend([trial])
    assert arrays.history(None, None).elites(2).tolist() == [2, 1]
    arrays.update(replace(done[2], state=TrialState.WAITING, value=None, values=()))
    assert arrays.history(2, None).elites(2).tolist() == [1, 0]
    assert arrays.history(None, None).elites(3).tolist() == [1, 0]


def test_nothing_is_copied_for_a_history() -> None:
    arrays = HistoryArrays(SPACE, OBJECTIVES["one"])
    for i in range(40):
        arrays.extend([Trial(i, "00000", TrialState.COMPLETE, 1.0, values=(1.0,))])
    first, second = arrays.history(None, None), arrays.history(20, None)
    for name in ("codes", "scores"):
        assert np.shares_memory(getattr(first, name), getattr(second, name))
    with pytest.raises(ValueError, match="read-only"):
        first.scores[0] = 2.0
