"""The Pareto front of a run with several objectives.

Membership is decided by the trials' own values, which are biased upwards by the selection. Means
over fresh seeds are reported beside them for the confirmed members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.records import Confirmation
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.ncode import NCode
from lm_searcher.spaces.objectives import Values, front, hypervolume_curve, reference_of, spread_out


def front_trials(trials: Sequence[Trial], objectives: ObjectiveSet) -> list[Trial]:
    """The feasible trials that no other trial dominates, the best of the first objective first."""
    complete = [t for t in trials if t.state is TrialState.COMPLETE and t.values]
    if not complete:
        return []
    values, violations = objectives.arrays(complete)
    members = np.flatnonzero(front(values, violations))
    return [complete[i] for i in sorted(members, key=lambda i: (-values[i, 0], complete[i].number))]


def finalists(trials: Sequence[Trial], objectives: ObjectiveSet, top: int) -> list[Trial]:
    """The `top` members to confirm: a subset that covers most of the front's hypervolume."""
    members = front_trials(trials, objectives)
    return [members[i] for i in spread_out(objectives.arrays(members)[0], top)]


def hypervolumes(
    trials: Sequence[Trial], objectives: ObjectiveSet, reference: Values | None = None
) -> list[float]:
    """The hypervolume after each trial; 0 before a trial is feasible.

    `reference` is the reference point, higher being better; by default it lies a tenth of each
    objective's range below the worst measured value.
    """
    values, violations = objectives.arrays(trials)
    if np.isnan(values).any(axis=1).all():
        return [0.0] * len(trials)
    reference = reference_of(values) if reference is None else reference
    return [float(v) for v in hypervolume_curve(values, violations, reference)]


@dataclass(frozen=True)
class Member:
    """An architecture of the front."""

    number: int
    ncode: NCode
    values: Mapping[str, float]
    """The trial's own value of each objective, by metric."""
    metrics: Mapping[str, float]
    seeds: int
    """Number of fresh seeds in `confirmed`; 0 if not confirmed."""
    confirmed: Mapping[str, float]
    """Each metric's mean over the fresh seeds."""
    spreads: Mapping[str, float]
    """Each metric's standard deviation over the fresh seeds; empty with fewer than two."""

    def to_json(self) -> dict[str, Any]:
        """The member as plain data."""
        return asdict(self)


def member_of(
    trial: Trial, objectives: ObjectiveSet, confirmations: Sequence[Confirmation]
) -> Member:
    """A trial of the front with its confirmations, failed ones included."""
    succeeded = [c for c in confirmations if c.value is not None]
    confirmed, spreads = fresh_means(succeeded)
    return Member(
        number=trial.number,
        ncode=trial.ncode,
        values={g.metric: v for g, v in zip(objectives.goals, trial.values, strict=True)},
        metrics=trial.metrics,
        seeds=len(succeeded),
        confirmed=confirmed,
        spreads=spreads,
    )


def fresh_means(
    confirmations: Sequence[Confirmation],
) -> tuple[dict[str, float], dict[str, float]]:
    """Means and standard deviations of each metric; the latter need two confirmations or more."""
    measured = [c.metrics or {} for c in confirmations]
    names = measured[0] if measured else ()
    values = {name: [metrics[name] for metrics in measured if name in metrics] for name in names}
    return (
        {name: float(np.mean(v)) for name, v in values.items()},
        {name: float(np.std(v, ddof=1)) for name, v in values.items() if len(v) > 1},
    )
