"""Scores, violations and ranks by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lm_searcher.agent.results.front import finalists, front_trials, hypervolumes, member_of
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.records import Confirmation
from lm_searcher.spaces.constraints import Constraint
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.objectives import Goal
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Objective, Outcome

TWO = ObjectiveSet((Goal("acc"), Goal("size", "min")))
BOUND = ObjectiveSet((Goal("acc"),), (Constraint("size", "<=", 2.0), Constraint("rate", ">=", 0.5)))


def trial(number: int, *values: float, violation: float = 0.0) -> Trial:
    value = values[0] if values else None
    state = TrialState.COMPLETE if values else TrialState.FAIL
    return Trial(number, str(number), state, value, values=values, violation=violation)


TRIALS = [
    trial(0, 0.5, 4.0),
    trial(1, 0.6, 3.0),  # beats 0
    trial(2),
    trial(3, 0.9, 5.0),
    trial(4, 0.6, 3.0),  # as 1
    trial(5, 0.7, 1.0, violation=0.5),
    trial(6, 0.2, 2.0),
]


@pytest.mark.parametrize("objectives", [TWO, BOUND, ObjectiveSet.of("loss", "min")])
def test_what_is_stored_is_read_again(objectives: ObjectiveSet) -> None:
    assert ObjectiveSet.stored(objectives.to_json()) == objectives


def test_one_objective_is_stored_as_it_was_before_there_were_several() -> None:
    assert ObjectiveSet.of("loss", "min").to_json() == {"metric": "loss", "direction": "min"}
    exact = ObjectiveSet((Goal("a"),), (Constraint("b", "<=", 1.23456789),))
    assert ObjectiveSet.stored(exact.to_json()) == exact


def test_one_trial() -> None:
    metrics = {"acc": 0.9, "size": 4.0, "rate": 0.25}
    assert TWO.values(metrics) == (0.9, 4.0) and TWO.violation(metrics) == 0.0
    assert BOUND.values(metrics) == (0.9,)
    assert BOUND.violation(metrics) == (4.0 - 2.0) / 2.0 + 0.25
    assert BOUND.margins(metrics) == {"size <= 2": 2.0, "rate >= 0.5": 0.25}
    assert BOUND.margins({"size": 1.0, "rate": 0.75}) == {"size <= 2": -1.0, "rate >= 0.5": -0.25}
    assert TWO.metrics == ("acc", "size") and BOUND.metrics == ("acc", "size", "rate")


def test_a_missing_metric_is_a_failure() -> None:
    whole = Outcome({"acc": 1.0, "size": 2.0}, 1.5)
    assert TWO.checked(whole) == whole and TWO.missing(whole) == []
    lacking = Outcome({"acc": 1.0, "x": 2.0}, 1.5)
    assert TWO.missing(lacking) == ["size"]
    failed = TWO.checked(lacking)
    assert failed.reason == "the evaluator gave no finite 'size'; its metrics: acc, x"
    assert failed.metrics == {} and failed.seconds == 1.5
    before = Outcome({}, 1.0, "out of memory")
    assert TWO.checked(before) == before and TWO.missing(before) == []
    infinite = Outcome({"acc": 1.0, "size": math.inf}, 1.5)
    assert TWO.missing(infinite) == [] and TWO.checked(infinite).reason is not None
    spare = Outcome({"acc": 1.0, "size": 2.0, "x": math.nan}, 1.5)
    assert TWO.checked(spare).metrics == {"acc": 1.0, "size": 2.0}


def test_scores_by_domination() -> None:
    values, violations = TWO.arrays(TRIALS)
    assert values[0].tolist() == [0.5, -4.0] and np.isnan(values[2]).all()
    scores = TWO.scores(values, violations)
    # front: 1, 3, 4, 6, of which 6 came last; then 0; the infeasible last
    assert scores[[0, 1, 3, 4, 5, 6]].tolist() == [-1.0, 0.0, 0.0, 0.0, -2.0, 0.5]
    assert np.isnan(scores[2])
    again = TWO.scores(*TWO.arrays([*TRIALS, trial(7, 0.6, 3.0), trial(8, 0.1, 9.0)]))
    assert again[6] == 0.5, "an equal trial is no change of the front"


def test_scalarised_scores_follow_the_weights() -> None:
    arrays = TWO.arrays(TRIALS)
    accurate, small = (TWO.scores(*arrays, np.array(w)) for w in ([1.0, 0.0], [0.0, 1.0]))
    assert int(np.nanargmax(accurate)) == 3 and int(np.nanargmax(small)) == 6
    assert int(np.nanargmin(accurate)) == 5 == int(np.nanargmin(small))


def test_a_constraint_moves_only_what_breaks_it() -> None:
    trials = [
        trial(0, 0.5),
        trial(1, 0.9, violation=1.0),
        trial(2, 0.7),
        trial(3, 0.8, violation=0.1),
    ]
    history = BOUND.history(SearchSpace.of("s", {"a": list(range(4))}), trials)
    assert history.scores[[0, 2]].tolist() == [0.5, 0.7]
    assert history.scores[1] < history.scores[3] < 0.5
    assert not history.failed.any() and history.codes.ravel().tolist() == [0, 1, 2, 3]


def test_the_front_of_trials() -> None:
    assert [t.number for t in front_trials(TRIALS, TWO)] == [3, 1, 4, 6]
    assert front_trials(TRIALS[2:3], TWO) == [] == finalists([], TWO, 3)
    # values above (0.2 - 0.07, 5 + 0.4): 3 alone holds 0.3 x 0.4; 1 and 4 hold nothing alone
    assert [t.number for t in finalists(TRIALS, TWO, 2)] == [3, 6]


def test_hypervolume_over_trials() -> None:
    trials = [trial(0), trial(1, 1.0, 2.0), trial(2, 0.0, 0.0), trial(3, 0.0, 1.0)]
    # the reference is (0 - 0.1, 2 + 0.2)
    assert hypervolumes(trials, TWO) == pytest.approx(
        [0.0, 1.1 * 0.2, 1.1 * 0.2 + 0.1 * 2.0, 1.1 * 0.2 + 0.1 * 2.0]
    )
    assert hypervolumes(trials, TWO, np.array([0.0, -3.0])) == pytest.approx([0.0, 1.0, 1.0, 1.0])
    assert hypervolumes(trials[:1], TWO) == [0.0] and hypervolumes([], TWO) == []


def test_a_member_that_was_confirmed() -> None:
    entries = [
        Confirmation(seed=1, value=0.8, metrics={"acc": 0.8, "size": 3.0}),
        Confirmation(seed=2, value=0.6, metrics={"acc": 0.6, "size": 3.0}),
        Confirmation(seed=3, reason="it broke"),
    ]
    member = member_of(TRIALS[1], TWO, entries)
    assert member.values == {"acc": 0.6, "size": 3.0} and member.seeds == 2
    assert member.confirmed == {"acc": pytest.approx(0.7), "size": 3.0}
    assert member.spreads == {"acc": pytest.approx(0.02**0.5), "size": 0.0}
    assert member_of(TRIALS[1], TWO, []).seeds == 0


def test_what_a_ranker_that_reads_words_is_told() -> None:
    assert ObjectiveSet.of("loss", "min").objective(3) == Objective("loss", "min", 3)
    assert BOUND.objective().constraints == ("size <= 2", "rate >= 0.5")
    told = TWO.objective()
    assert (told.metric, told.direction) == ("score", "max")
    assert told.parts == (("acc", "max"), ("size", "min"))
