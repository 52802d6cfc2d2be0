from __future__ import annotations

from typing import Any

import pytest

from lm_searcher.agent.results.incumbent import best_trials, find_incumbent
from lm_searcher.agent.study.run_records import RunRecords
from lm_searcher.spaces.history import Trial, TrialState

TRIALS = [
    Trial(0, "0", TrialState.COMPLETE, 0.5, {"value": 0.5}),
    Trial(1, "1", TrialState.COMPLETE, 0.9, {"value": 0.9, "params": 4.0}),
    Trial(2, "2", TrialState.PRUNED, 0.99),
    Trial(3, "3", TrialState.FAIL, reason="x"),
    Trial(4, "4", TrialState.COMPLETE, 0.9),
    Trial(5, "5", TrialState.COMPLETE, 0.8),
    Trial(6, "6", TrialState.RUNNING),
]


def entry(value: float, **metrics: float) -> dict[str, Any]:
    return {"seed": 1, "seconds": 1.0, "value": value, "metrics": {"value": value, **metrics}}


def test_the_best_are_complete_trials_earliest_among_equals() -> None:
    assert [t.number for t in best_trials(TRIALS, 1.0, 3)] == [1, 4, 5]
    assert [t.number for t in best_trials(TRIALS, -1.0, 2)] == [0, 5]
    assert best_trials(TRIALS[2:4], 1.0, 3) == []


def test_without_confirmation_the_incumbent_is_the_best_trial() -> None:
    best = find_incumbent(TRIALS, RunRecords.of({}), 1.0)
    assert best is not None
    assert (best.number, best.ncode, best.value, best.seeds, best.spread) == (1, "1", 0.9, 0, None)
    assert best.metrics == {"value": 0.9, "params": 4.0}
    assert find_incumbent(TRIALS[2:4], RunRecords.of({}), 1.0) is None


def test_the_incumbent_is_chosen_by_the_mean_and_reported_by_fresh_seeds() -> None:
    attributes = {
        "confirm:000001:000": entry(0.6, test=0.5),
        "confirm:000001:001": entry(0.4, test=0.7),
        "confirm:000004:000": entry(0.8, test=0.8),
        "confirm:000004:001": entry(0.7, test=0.6),
        "other": 3,
    }
    best = find_incumbent(TRIALS, RunRecords.of(attributes), 1.0)
    assert best is not None
    assert (best.number, best.seeds) == (4, 2)
    assert best.value == pytest.approx(0.75) and best.spread == pytest.approx(0.0707, abs=1e-4)
    assert best.metrics == pytest.approx({"value": 0.75, "test": 0.7})
    assert best.spreads["test"] == pytest.approx(0.1414, abs=1e-4)
    worst = find_incumbent(TRIALS, RunRecords.of(attributes), -1.0)
    assert worst is not None and worst.number == 1


def test_the_searchs_own_value_counts_in_the_choice() -> None:
    trials = [
        Trial(0, "0", TrialState.COMPLETE, 0.9),
        Trial(1, "1", TrialState.COMPLETE, 0.3),
    ]
    attributes = {"confirm:000000:000": entry(0.5), "confirm:000001:000": entry(0.6)}
    best = find_incumbent(trials, RunRecords.of(attributes), 1.0)
    assert best is not None and (best.number, best.value, best.spread) == (0, 0.5, None)


def test_confirmations_that_failed_are_kept_and_do_not_count() -> None:
    failed = {"seed": 1, "seconds": 1.0, "reason": "killed"}
    attributes = {"confirm:000001:000": failed, "confirm:000005:000": entry(0.7)}
    confirmed = RunRecords.of(attributes).confirmed()
    documents = {number: [c.document for c in found] for number, found in confirmed.items()}
    assert documents == {1: [failed], 5: [entry(0.7)]}
    best = find_incumbent(TRIALS, RunRecords.of(attributes), 1.0)
    assert best is not None and best.number == 5
    only_failed = find_incumbent(TRIALS, RunRecords.of({"confirm:000001:000": failed}), 1.0)
    assert only_failed is not None and (only_failed.number, only_failed.seeds) == (1, 0)
