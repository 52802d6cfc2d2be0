"""Trials as Optuna stores them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.usage import Usage

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
    )
