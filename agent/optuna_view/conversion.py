"""A run's result as an Optuna study: attributes of the study, and a FrozenTrial of each trial.

position            categorical parameter with the position's options
objective           one value, in the user's own sign
curve               intermediate values, from step 1
constraint          ``trial.constraints``, feasible at 0 and below
metric              user attribute ``metric:NAME``
incumbent, front    user attribute of the trials that the run recommends
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy  # in the interface of every storage
from optuna.trial import FrozenTrial

from lm_searcher.agent.results.result import Result
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.history import Trial
from lm_searcher.spaces.space import SearchSpace

METRIC = "metric:"
"""Before a metric's name among a trial's user attributes."""
CONSTRAINTS = "constraints"
"""The system attribute of constraints. With a colon and a name behind: where
``Trial.set_constraint`` keeps one. Alone: the list of an earlier form, which the dashboard reads.
"""
METRIC_NAMES = "study:metric_names"
"""The system attribute that ``Study.set_metric_names`` writes: Optuna's figures and the dashboard
name the objectives by it."""
STORED = ("seed", "config", "versions", "evaluator")
"""The attributes of a run that its study has too."""


def directions_of(objectives: ObjectiveSet) -> list[StudyDirection]:
    """The direction of each objective."""
    names = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
    return [names[goal.direction] for goal in objectives.goals]


def distributions_of(space: SearchSpace) -> dict[str, BaseDistribution]:
    """A categorical parameter for each position."""
    return {p.name: CategoricalDistribution(p.choices) for p in space.positions}


def study_of(result: Result, study_id: int) -> FrozenStudy:
    """The run without its trials."""
    metrics = [goal.metric for goal in result.objectives.goals]
    return FrozenStudy(
        study_name=result.run,
        direction=None,
        directions=directions_of(result.objectives),
        user_attrs=_study_attributes(result),
        system_attrs={METRIC_NAMES: metrics},
        study_id=study_id,
    )


def _study_attributes(result: Result) -> dict[str, Any]:
    attributes: dict[str, Any] = {"space": result.space.name, "state": result.state}
    if result.stop is not None:
        attributes["stop"] = str(result.stop)
    if result.objectives.constraints:
        attributes["constraints"] = ", ".join(map(str, result.objectives.constraints))
    if (best := result.incumbent) is not None:
        attributes |= {"incumbent": best.number, "incumbent ncode": best.ncode}
        attributes |= {"incumbent value": best.value, "incumbent seeds": best.seeds}
    if result.objectives.several:
        attributes["front"] = [member.number for member in result.front]
    return attributes | {k: result.attributes[k] for k in STORED if k in result.attributes}


def marks_of(result: Result) -> dict[int, str]:
    """The attribute that marks each trial which the run recommends, by number."""
    if result.objectives.several:
        return {member.number: "front" for member in result.front}
    best = result.incumbent
    return {} if best is None else {best.number: "incumbent"}


def frozen_trial(
    trial: Trial,
    trial_id: int,
    result: Result,
    distributions: Mapping[str, BaseDistribution],
    mark: str | None = None,
    listed: bool = False,
) -> FrozenTrial:
    """A trial as one of Optuna's.

    Args:
        trial: The trial.
        trial_id: Its number among all trials of a storage.
        result: The run.
        distributions: The parameters of the run's space.
        mark: The attribute that says that the run recommends the trial.
        listed: Write the constraints as the list of an earlier form.
    """
    margins = result.objectives.margins(trial.metrics) if trial.values else {}
    constraints: dict[str, Any] = {f"{CONSTRAINTS}:{name}": m for name, m in margins.items()}
    if listed and margins:
        constraints = {CONSTRAINTS: list(margins.values())}
    return FrozenTrial(
        number=trial.number,
        trial_id=trial_id,
        state=optuna.trial.TrialState[trial.state.name],
        value=None,
        values=list(trial.values) or None,
        datetime_start=_local(trial.began),
        datetime_complete=_local(trial.ended),
        params=result.space.decode(trial.ncode),
        distributions=dict(distributions),
        user_attrs=_trial_attributes(trial) | ({mark: True} if mark else {}),
        system_attrs=constraints,
        intermediate_values=dict(enumerate(trial.curve, 1)),
    )


def _trial_attributes(trial: Trial) -> dict[str, Any]:
    attributes: dict[str, Any] = {"ncode": trial.ncode, "seed": trial.seed}
    attributes |= {METRIC + name: value for name, value in trial.metrics.items()}
    optional = {"seconds": trial.seconds, "reason": trial.reason, "place": trial.place or None}
    attributes |= {name: value for name, value in optional.items() if value is not None}
    if trial.fidelity != 1.0:
        attributes["fidelity"] = trial.fidelity
    if trial.attempt > 1:
        attributes["attempt"] = trial.attempt
    if trial.usage is not None:
        attributes["usage"] = asdict(trial.usage)
    return attributes


def _local(time: float | None) -> datetime | None:
    """Seconds since the epoch as Optuna stores times: local, without a time zone."""
    return None if time is None else datetime.fromtimestamp(time)
