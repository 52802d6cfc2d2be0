"""The Pareto front of a run: what it has found where there are several objectives.

The front is of the trials' own values, which luck flatters; of those that were confirmed, the means
over fresh seeds stand beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.ncode import NCode
from lm_searcher.spaces.objectives import Values, front, hypervolume_curve, reference_of, spread_out


def front_trials(trials: Sequence[Trial], objectives: ObjectiveSet) -> list[Trial]:
    """The feasible trials that no other dominates, the best of the first objective first."""
    complete = [t for t in trials if t.state is TrialState.COMPLETE and t.values]
    if not complete:
        return []
    values, violations = objectives.arrays(complete)
    members = np.flatnonzero(front(values, violations))
    return [complete[i] for i in sorted(members, key=lambda i: (-values[i, 0], complete[i].number))]


def finalists(trials: Sequence[Trial], objectives: ObjectiveSet, top: int) -> list[Trial]:
    """The members that stand for the front: those with the largest shares of its hypervolume."""
    members = front_trials(trials, objectives)
    return [members[i] for i in spread_out(objectives.arrays(members)[0], top)]


def hypervolumes(
    trials: Sequence[Trial], objectives: ObjectiveSet, reference: Values | None = None
) -> list[float]:
    """The hypervolume after each trial, above a reference a tenth of the range below the worst
    values measured, unless another is given; 0 before a trial is feasible."""
    values, violations = objectives.arrays(trials)
    if np.isnan(values).any(axis=1).all():
        return [0.0] * len(trials)
    reference = reference_of(values) if reference is None else reference
    return [float(v) for v in hypervolume_curve(values, violations, reference)]


@dataclass(frozen=True)
class Member:
    """One architecture of the front."""

    number: int
    ncode: NCode
    values: Mapping[str, float]
    """Each objective, as the trial measured it."""
    metrics: Mapping[str, float]
    seeds: int
    """Fresh seeds behind `confirmed`; 0 if there are none."""
    confirmed: Mapping[str, float]
    """Means over the fresh seeds, of every metric."""
    spreads: Mapping[str, float]
    """Standard deviations over the fresh seeds, where there are two."""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def member_of(
    trial: Trial, objectives: ObjectiveSet, entries: Sequence[Mapping[str, Any]]
) -> Member:
    """A member of the front with the confirmations that it has."""
    good = [entry for entry in entries if "value" in entry]
    confirmed, spreads = fresh_means(good)
    values = {g.metric: v for g, v in zip(objectives.goals, trial.values, strict=True)}
    return Member(trial.number, trial.ncode, values, trial.metrics, len(good), confirmed, spreads)


def fresh_means(entries: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Each metric's mean over some confirmations, and its spread where there are two."""
    if not entries:
        return {}, {}
    values = {
        name: [entry["metrics"][name] for entry in entries if name in entry["metrics"]]
        for name in entries[0]["metrics"]
    }
    return (
        {name: float(np.mean(v)) for name, v in values.items()},
        {name: float(np.std(v, ddof=1)) for name, v in values.items() if len(v) > 1},
    )
