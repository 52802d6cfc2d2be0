from __future__ import annotations

import numpy as np
import pytest

from lm_searcher.spaces.fidelity import Curves, final_scores
from lm_searcher.spaces.history import History, Trial, TrialState
from lm_searcher.spaces.space import SearchSpace

NAN = np.nan


def table(*rows: list[float]) -> np.ndarray:
    """Learning curves of different lengths, NaN behind them."""
    longest = max(map(len, rows))
    return np.array([row + [NAN] * (longest - len(row)) for row in rows])


def estimates(reports: np.ndarray, stopped: list[bool]) -> list[float]:
    last = (~np.isnan(reports)).sum(axis=1) - 1
    return final_scores(reports[np.arange(len(last)), last], reports, np.array(stopped)).tolist()


def test_a_stopped_trial_stands_among_final_scores_where_it_stood_when_it_was_stopped() -> None:
    # Of the whole trainings the first reports are 0.2, 0.3, 0.4, the final scores 0.7, 0.8, 0.9.
    whole = [[0.3, 0.7], [0.2, 0.9], [0.4, 0.8]]
    found = estimates(table(*whole, [0.25], [0.4], [0.1], [0.6]), [False] * 3 + [True] * 4)
    assert found[:3] == [0.7, 0.9, 0.8]
    # Between the first two; as the best, but not the best; a shift of the worst; beyond the best.
    assert found[3:] == pytest.approx([0.75, 0.9, 0.6, 0.9])
    assert found[4] < 0.9 and found[6] < 0.9


def test_the_later_a_trial_was_stopped_the_sooner_it_is_placed() -> None:
    # At the second report 0.5 is a shift of 0.1 below 0.6, whose final score is 1.0: 0.9. At the
    # first report 0.2 lies midway between 0.1 and 0.3, of which the scores are 0.9 and 1.0.
    reports = table([0.3, 0.6, 1.0], [0.1, 0.5], [0.2])
    assert estimates(reports, [False, True, True]) == pytest.approx([1.0, 0.9, 0.95])


def test_a_distance_is_scaled_as_the_spread_is() -> None:
    whole = [[0.1 * k, 0.9 + 0.01 * k] for k in range(5)]
    found = estimates(table(*whole, [-0.2]), [False] * 5 + [True])
    assert found[5] == pytest.approx(0.9 - 0.2 * 0.1)


def test_equal_reports_have_the_mean_of_what_came_of_them() -> None:
    found = estimates(table([0.5, 0.6], [0.5, 0.8], [0.5], [0.4]), [False, False, True, True])
    assert found[2:] == pytest.approx([0.7, 0.6])


def test_without_one_that_went_further_a_score_stays_as_it_is() -> None:
    assert estimates(table([0.5], [0.4]), [True, True]) == [0.5, 0.4]
    # The second one was not stopped, but it has no second report either.
    assert estimates(table([0.5], [0.9]), [True, False]) == [0.5, 0.9]
    failed = final_scores(np.array([0.5, NAN]), table([0.5], [0.9, 0.9]), np.array([True, False]))
    assert failed[0] == 0.5 and np.isnan(failed[1])


@pytest.mark.parametrize("seed", range(20))
def test_what_must_hold_of_any_history(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, steps = int(rng.integers(2, 60)), 5
    reports = np.cumsum(rng.normal(size=(n, steps)).round(1), axis=1)  # with ties
    lengths = rng.integers(1, steps + 1, n)
    reports[np.arange(steps) >= lengths[:, None]] = NAN
    stopped = lengths < steps
    scores = reports[np.arange(n), lengths - 1]
    scores[rng.random(n) < 0.1] = NAN
    found = final_scores(scores, reports, stopped)
    assert np.array_equal(found[~stopped], scores[~stopped], equal_nan=True)
    assert np.array_equal(np.isnan(found), np.isnan(scores))
    whole = scores[~stopped & ~np.isnan(scores)]
    if len(whole):
        assert not len(found[stopped]) or not np.nanmax(found[stopped], initial=-9) >= whole.max()
    for length in range(1, steps):
        some = np.flatnonzero((lengths == length) & ~np.isnan(scores))
        order = some[np.argsort(reports[some, length - 1], kind="stable")]
        assert (np.diff(found[order]) >= 0).all()
    later = rng.permutation(n)  # in whichever order they come
    again = final_scores(scores[later], reports[later], stopped[later])
    assert np.allclose(again, found[later], equal_nan=True)


def test_curves_grow_both_ways() -> None:
    rng = np.random.default_rng(0)
    reports, stopped = rng.normal(size=(200, 20)), rng.random(200) < 0.5
    reports[stopped, 7:] = NAN
    curves = Curves()
    for number, row in enumerate(reports):
        curves.note(number, row[~np.isnan(row)], bool(stopped[number]))
    scores = rng.normal(size=203)  # the last ones have not reported
    expected = final_scores(scores[:200], reports, stopped)
    assert np.array_equal(curves.final(scores), np.concatenate([expected, scores[200:]]))
    early = final_scores(scores[:90], reports[:90], stopped[:90])
    assert np.array_equal(curves.final(scores[:90]), early)  # later trials change nothing


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_history_is_of_equal_fidelity(sign: float) -> None:
    space = SearchSpace.of("s", {"a": [1, 2, 3]})
    trials = [
        Trial(0, "0", TrialState.COMPLETE, sign * 0.9, curve=(sign * 0.5, sign * 0.9)),
        Trial(1, "1", TrialState.PRUNED, sign * 0.4, curve=(sign * 0.4,)),
        Trial(2, "2", TrialState.FAIL, curve=(sign * 0.4,)),
    ]
    scores = History.of(space, trials, sign).scores
    assert scores[:2] == pytest.approx([0.9, 0.8]) and np.isnan(scores[2])
