"""Results for the tests of Optuna's view, made without a store."""

from __future__ import annotations

from stores import SPACE

from lm_searcher.agent.results.result import Result
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.history import Trial, TrialState

GOALS = [{"metric": "acc", "direction": "max"}, {"metric": "size", "direction": "min"}]
CONSTRAINED = ObjectiveSet.stored({"objectives": GOALS, "constraints": ["size <= 3.0"]})


def result_of(objectives: ObjectiveSet, *measured: dict[str, float]) -> Result:
    """A finished run named `made`; its trials were measured so."""
    trials = []
    for number, metrics in enumerate(measured):
        values = objectives.values(metrics)
        trial = Trial(
            *(number, f"{number}00", TrialState.COMPLETE, values[0], metrics),
            values=values,
            violation=objectives.violation(metrics),
            began=1e9 + number,
            ended=1e9 + number + 0.5,
        )
        trials.append(trial)
    return Result("made", "memory", SPACE, "finished", None, objectives, trials, {"id": "made"})
