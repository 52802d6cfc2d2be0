from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lm_searcher.spaces.history import History, Trial, TrialState
from lm_searcher.spaces.ncode import to_codes
from lm_searcher.spaces.space import SearchSpace

SPACE = SearchSpace.of("s", {"a": [1, 2, 3], "b": [1, 2]})
TRIALS = [
    Trial(0, "00", TrialState.COMPLETE, 0.5),
    Trial(1, "10", TrialState.FAIL, reason="boom"),
    Trial(2, "20", TrialState.PRUNED, 0.9, fidelity=0.25),
    Trial(3, "01", TrialState.RUNNING),
    Trial(4, "11", TrialState.COMPLETE, 0.9),
    Trial(5, "21", TrialState.COMPLETE, -1.0),
]


def test_a_history_is_the_trials_as_arrays() -> None:
    history = History.of(SPACE, iter(TRIALS))
    assert len(history) == 6
    assert np.array_equal(history.codes, to_codes(["00", "10", "20", "01", "11", "21"], 2))
    assert np.array_equal(history.scores, [0.5, np.nan, 0.9, np.nan, 0.9, -1.0], equal_nan=True)
    assert history.failed.tolist() == [False, True, False, False, False, False]
    assert history.pending.tolist() == [False, False, False, True, False, False]
    assert history.scored.tolist() == [0, 2, 4, 5]


def test_elites_are_best_first_and_earliest_among_equals() -> None:
    history = History.of(SPACE, TRIALS)
    assert history.elites(3).tolist() == [2, 4, 0]
    assert history.elites(99).tolist() == [2, 4, 0, 5]
    assert history.elites(0).tolist() == []


@pytest.mark.parametrize("seed", range(10))
def test_elites_and_latest_of_any_history(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 60))
    scores = rng.integers(0, 9, n).astype(float)  # with ties
    scores[rng.random(n) < 0.3] = np.nan
    scores[rng.random(n) < 0.1] = -np.inf
    none = np.zeros(n, bool)
    history = History(SPACE.sample(n, rng), scores, none, none)
    best = sorted(history.scored.tolist(), key=lambda i: (-scores[i], i))
    for k in (0, 1, 2, 7, n, n + 1):
        assert history.elites(k).tolist() == best[:k]
        assert (
            history.latest(k).tolist() == history.scored.tolist()[len(best) - min(k, len(best)) :]
        )
        known = replace(history, leading=np.array(best[:k], np.intp))
        assert known.elites(7).tolist() == best[:7]
        assert known.with_pending(SPACE.sample(2, rng)).elites(1).tolist() == best[:1]


def test_nothing_pending_is_the_same_history() -> None:
    history = History.of(SPACE, TRIALS)
    assert history.with_pending(to_codes([], 2)) is history


def test_what_is_minimised_is_turned() -> None:
    history = History.of(SPACE, TRIALS, sign=-1.0)
    assert history.elites(2).tolist() == [5, 0]
    assert history.scores[5] == 1.0


def test_an_empty_history_has_the_right_width() -> None:
    for history in (History.empty(2), History.of(SPACE, [])):
        assert len(history) == 0 and history.codes.shape == (0, 2)
        assert history.elites(5).tolist() == [] and history.scored.tolist() == []
        assert history.failed.dtype == bool and history.pending.dtype == bool


def test_histories_add_up_and_take_pending_trials() -> None:
    first, second = History.of(SPACE, TRIALS[:2]), History.of(SPACE, TRIALS[2:])
    whole, both = History.of(SPACE, TRIALS), first + second
    for name in ("codes", "scores", "failed", "pending"):
        assert np.array_equal(getattr(both, name), getattr(whole, name), equal_nan=name == "scores")
    more = whole.with_pending(to_codes(["20", "21"], 2))
    assert len(more) == 8 and len(whole) == 6
    assert more.pending[-2:].all() and not more.failed[-2:].any()
    assert np.isnan(more.scores[-2:]).all()
    assert more.elites(1).tolist() == [2]


@pytest.mark.parametrize("state", list(TrialState))
def test_what_runs_or_waits_is_not_finished(state: TrialState) -> None:
    assert state.finished is (state not in (TrialState.RUNNING, TrialState.WAITING))
    assert str(state) == state.name
