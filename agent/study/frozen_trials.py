"""Trials as Optuna stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.usage import Usage
from lm_searcher.tools.protocols import Outcome

CONSTRAINT = "constraints:"
"""Before the name of a constraint among a trial's system attributes: where Optuna keeps what
``Trial.set_constraint`` is given, feasible at 0 and below."""

STATES = {
    TrialState.WAITING: optuna.trial.TrialState.WAITING,
    TrialState.RUNNING: optuna.trial.TrialState.RUNNING,
    TrialState.COMPLETE: optuna.trial.TrialState.COMPLETE,
    TrialState.PRUNED: optuna.trial.TrialState.PRUNED,
    TrialState.FAIL: optuna.trial.TrialState.FAIL,
}
ORDER = list(STATES)
"""Codes of the states in an array: those still to come first."""


def as_trial(frozen: FrozenTrial, objectives: ObjectiveSet) -> Trial:
    """One of ours from one of Optuna's."""
    attributes: Mapping[str, Any] = frozen.user_attrs
    state = next(ours for ours, theirs in STATES.items() if theirs == frozen.state)
    curve = tuple(frozen.intermediate_values[s] for s in sorted(frozen.intermediate_values))
    values = () if state is TrialState.FAIL else tuple(frozen.values or ())
    metrics = attributes.get("metrics", {})
    return Trial(
        number=frozen.number,
        ncode=attributes.get("ncode", ""),
        state=state,
        value=values[0] if values else None,
        values=values,
        violation=objectives.violation(metrics) if values else 0.0,
        metrics=metrics,
        seed=attributes.get("seed", 0),
        fidelity=attributes.get("fidelity", 1.0),
        reason=attributes.get("reason"),
        seconds=attributes.get("seconds"),
        curve=curve,
        usage=Usage.of(attributes["account"]) if "account" in attributes else None,
        began=frozen.datetime_start.timestamp() if frozen.datetime_start else None,
        ended=frozen.datetime_complete.timestamp() if frozen.datetime_complete else None,
    )


def ended(
    trial: Trial,
    outcome: Outcome,
    fidelity: float,
    curve: Mapping[int, float],
    objectives: ObjectiveSet,
) -> tuple[Trial, Mapping[str, float]]:
    """A running trial with its outcome, and each constraint's value in Optuna's form.

    A trial without all metrics has failed. `curve` has the reports by step.
    """
    outcome = objectives.checked(outcome)
    trial = replace(
        trial,
        state=TrialState.FAIL,
        metrics=dict(outcome.metrics),
        fidelity=fidelity,
        reason=outcome.reason,
        seconds=round(outcome.seconds, 4),
        curve=tuple(curve[step] for step in sorted(curve)),
    )
    if outcome.reason is not None:
        return trial, {}
    values = objectives.values(outcome.metrics)
    trial = replace(
        trial,
        state=TrialState.PRUNED if outcome.stopped else TrialState.COMPLETE,
        value=values[0],
        values=values,
        violation=objectives.violation(outcome.metrics),
    )
    return trial, objectives.margins(outcome.metrics)


def attributes_of(trial: Trial) -> dict[str, Any]:
    """What is stored with a trial when it ends, beside its values and its state."""
    attributes: dict[str, Any] = {"seconds": trial.seconds}
    if trial.metrics:
        attributes["metrics"] = dict(trial.metrics)
    if trial.reason is not None:
        attributes["reason"] = trial.reason
    if trial.fidelity != 1.0:
        attributes["fidelity"] = trial.fidelity
    return attributes
