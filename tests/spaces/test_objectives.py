"""Fronts, hypervolume and scalarisation against hand-computed values, Optuna and definitions."""

from __future__ import annotations

import numpy as np
import optuna
import pytest

from lm_searcher.spaces import objectives
from lm_searcher.spaces.constraints import Constraint
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.objectives import Goal

VALUES = np.array([[1.0, 4.0], [2.0, 3.0], [2.0, 2.0], [4.0, 1.0], [np.nan, 9.0], [4.0, 1.0]])
FEASIBLE = np.zeros(6)


@pytest.mark.parametrize(
    ("text", "metric", "sign", "bound"),
    [("params_m <= 1.0", "params_m", "<=", 1.0), ("acc>=.5", "acc", ">=", 0.5)],
)
def test_a_constraint_is_read(text: str, metric: str, sign: str, bound: float) -> None:
    constraint = Constraint.parse(text)
    assert constraint == Constraint(metric, sign, bound)
    assert Constraint.parse(str(constraint)) == constraint
    assert str(Constraint("a", "<=", 1.0)) == "a <= 1"
    assert str(Constraint("a", ">=", 0.123456789)) == "a >= 0.123456789"


@pytest.mark.parametrize(
    "text", ["", "params_m", "params_m < 1", "<= 1", "a <= b", "a <= nan", "a <= inf", "a == 1"]
)
def test_what_is_no_constraint(text: str) -> None:
    with pytest.raises(ConfigError, match=r"such as 'params_m <= 1.0'"):
        Constraint.parse(text)


def test_violations() -> None:
    most, least = Constraint("a", "<=", 2.0), Constraint("a", ">=", 0.5)
    assert most.violation(np.array([1.0, 2.0, 3.0])).tolist() == [0.0, 0.0, 0.5]
    assert least.violation(np.array([1.0, 0.5, 0.25])).tolist() == [0.0, 0.0, 0.25]
    assert (Goal("a", "min").sign, Goal("a").sign) == (-1.0, 1.0)


def test_the_front() -> None:
    assert objectives.front(VALUES, FEASIBLE).tolist() == [True, True, False, True, False, True]
    bad = np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    assert objectives.front(VALUES, bad).tolist() == [True, False, True, True, False, True]
    assert not objectives.front(VALUES, np.ones(6)).any()
    assert not objectives.front(VALUES[:0], FEASIBLE[:0]).any()


def test_ranks_by_domination() -> None:
    ranks = objectives.domination_rank(VALUES, FEASIBLE)
    assert ranks[[0, 1, 2, 3, 5]].tolist() == [0, 0, 1, 0, 0] and np.isnan(ranks[4])
    ranks = objectives.domination_rank(VALUES, np.array([0.0, 2.0, 1.0, 0.0, 0.0, 0.0]))
    assert ranks[[0, 1, 2, 3, 5]].tolist() == [0, 2, 1, 0, 0]


def test_hypervolume_by_hand() -> None:
    reference = np.array([0.0, 0.0])
    assert objectives.hypervolume(VALUES, reference) == pytest.approx(4 + 3 + 2)
    assert objectives.hypervolume(VALUES[4:5], reference) == 0.0
    curve = objectives.hypervolume_curve(VALUES, FEASIBLE, reference)
    assert curve.tolist() == pytest.approx([4, 7, 7, 9, 9, 9])
    curve = objectives.hypervolume_curve(VALUES, np.array([0, 1.0, 0, 0, 0, 0]), reference)
    assert curve.tolist() == pytest.approx([4, 4, 6, 8, 8, 8])


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_hypervolume_and_front_as_optuna_has_them() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 3))
    reference = objectives.reference_of(values)
    study = optuna.create_study(directions=["maximize"] * 3)
    for row in values:
        study.add_trial(optuna.trial.create_trial(values=list(row)))
    figure = optuna.visualization.plot_hypervolume_history(study, list(reference))
    theirs = np.array(figure.data[0].y)
    ours = objectives.hypervolume_curve(values, np.zeros(40), reference)
    np.testing.assert_allclose(ours, theirs)
    best = {trial.number for trial in study.best_trials}
    assert best == set(np.flatnonzero(objectives.front(values, np.zeros(40))))


def test_a_scalarisation_prefers_by_its_weights() -> None:
    first = objectives.scalarised(VALUES, FEASIBLE, np.array([1.0, 0.0]))
    second = objectives.scalarised(VALUES, FEASIBLE, np.array([0.0, 1.0]))
    assert np.nanargmax(first) == 3 and np.nanargmax(second) == 0
    assert np.isnan(first[4]) and first[3] == first[5]
    # Row 1 lies (2/3, 1/3) of the front's range off the best; (2/5, 1/5) of the trials are better.
    even = objectives.scalarised(VALUES, FEASIBLE, np.array([0.5, 0.5]))
    far, near = (2 / 3 + 2 / 5) / 4, (1 / 3 + 1 / 5) / 4
    assert even[1] == pytest.approx(-(far + 0.05 * (far + near)))


def test_a_dominated_trial_never_scores_better() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 2))
    ranks = objectives.domination_rank(values, np.zeros(50))
    for _ in range(20):
        scores = objectives.scalarised(values, np.zeros(50), objectives.draw_weights(2, rng))
        assert ranks[scores.argmax()] == 0
        for i in range(50):
            better = (values >= values[i]).all(axis=1)
            assert (scores[better] >= scores[i]).all()


def test_one_objective_is_its_own_score() -> None:
    values = np.array([[3.0], [1.0], [np.nan], [7.0]])
    scores = objectives.scalarised(values, np.array([0.0, 0.0, 0.0, 2.0]), np.ones(1))
    assert scores[:2].tolist() == [3.0, 1.0] and np.isnan(scores[2]) and scores[3] < 1.0


def test_infeasible_trials_go_by_their_violation() -> None:
    violations = np.array([0.0, 3.0, 1.0, 0.0, 0.0, 0.2])
    scores = objectives.scalarised(VALUES, violations, np.array([0.5, 0.5]))
    assert min(scores[0], scores[3]) > scores[5] > scores[2] > scores[1]
    scores = objectives.scalarised(VALUES, np.arange(1.0, 7.0), np.array([0.5, 0.5]))
    assert (np.diff(scores[[0, 1, 2, 3, 5]]) < 0).all()


@pytest.mark.parametrize("values", [VALUES[:1], VALUES[[0, 0]], VALUES[4:5], VALUES[:0]])
def test_few_or_equal_trials(values: objectives.Values) -> None:
    scores = objectives.scalarised(values, np.zeros(len(values)), np.array([0.3, 0.7]))
    assert not np.isinf(scores).any() and len(set(scores[~np.isnan(scores)])) <= 1


def test_those_that_stand_for_a_front() -> None:
    values = np.array([[0.0, 10.0], [5.0, 5.0], [5.1, 4.9], [10.0, 0.0]])
    assert set(objectives.spread_out(values, 2)) <= {0, 3, 1, 2}
    assert len(objectives.spread_out(values, 2)) == 2 and objectives.spread_out(values[:0], 3) == []
    held = objectives.contributions(values, np.zeros(2))
    assert held.tolist() == pytest.approx([0.0, 5 * 0.1, 0.1 * 4.9, 0.0])


def test_penalised_values_are_dominated_by_all_that_are_feasible() -> None:
    values = objectives.penalised(VALUES, np.array([0.0, 3.0, 1.0, 0.0, 0.0, 0.0]))
    assert np.array_equal(values[[0, 3, 5]], VALUES[[0, 3, 5]]) and np.isnan(values[4]).any()
    ranks = objectives.domination_rank(values, FEASIBLE)
    assert ranks[[0, 1, 2, 3, 5]].tolist() == [0, 2, 1, 0, 0]
    assert objectives.penalised(VALUES, FEASIBLE) is VALUES
