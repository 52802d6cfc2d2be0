"""The objectives of a search in their order, and its constraints.

A ranker sees one score a trial. With several objectives the score is a scalarisation whose weights
are drawn anew for each step. Memory and the stopping rules see the domination rank instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from lm_searcher.spaces.constraints import Constraint
from lm_searcher.spaces.history import History, Trial, equal_fidelity
from lm_searcher.spaces.objectives import (
    Goal,
    Values,
    domination_rank,
    front,
    penalised,
    scalarised,
)
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Objective, Outcome


@dataclass(frozen=True)
class ObjectiveSet:
    """One objective or several, and bounds on metrics. A trial's `value` is the first objective."""

    goals: tuple[Goal, ...]
    constraints: tuple[Constraint, ...] = ()

    @classmethod
    def of(cls, metric: str, direction: str = "max") -> ObjectiveSet:
        """A single objective without constraints."""
        return cls((Goal(metric, direction),))

    @classmethod
    def stored(cls, document: Mapping[str, Any]) -> ObjectiveSet:
        """The objectives of a document that `to_json` wrote."""
        goals = document.get("objectives") or [document]
        return cls(
            tuple(Goal(goal["metric"], goal["direction"]) for goal in goals),
            tuple(map(Constraint.parse, document.get("constraints", []))),
        )

    def to_json(self) -> dict[str, Any]:
        """As plain data: the first objective, then all objectives and constraints if any."""
        document: dict[str, Any] = {"metric": self.metric, "direction": self.direction}
        if self.several:
            goals = [{"metric": g.metric, "direction": g.direction} for g in self.goals]
            document["objectives"] = goals
        if self.constraints:
            document["constraints"] = list(map(str, self.constraints))
        return document

    @property
    def metric(self) -> str:
        """The first objective's metric."""
        return self.goals[0].metric

    @property
    def direction(self) -> str:
        """The first objective's direction."""
        return self.goals[0].direction

    @property
    def sign(self) -> float:
        """The factor that makes the first objective higher-is-better: 1 or -1."""
        return self.goals[0].sign

    @property
    def several(self) -> bool:
        """Whether the result is a front."""
        return len(self.goals) > 1

    @property
    def plain(self) -> bool:
        """Whether there is one objective and nothing else."""
        return not self.several and not self.constraints

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that a trial must have, each once, the first objective's first."""
        names = [goal.metric for goal in self.goals] + [c.metric for c in self.constraints]
        return tuple(dict.fromkeys(names))

    def objective(self, picks: int = 1) -> Objective:
        """The objective in words, for a ranker that asks a language model."""
        bounds = tuple(map(str, self.constraints))
        if not self.several:
            return Objective(self.metric, self.direction, picks, constraints=bounds)
        parts = tuple((goal.metric, goal.direction) for goal in self.goals)
        return Objective("score", "max", picks, parts, bounds)

    @cached_property
    def signs(self) -> Values:
        """The factors that make each objective higher-is-better, shape [objectives]."""
        return np.array([goal.sign for goal in self.goals])

    # -- of one trial ------------------------------------------------------------------------

    def values(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """The objectives among the metrics, in the user's own signs."""
        return tuple(float(metrics[goal.metric]) for goal in self.goals)

    def violation(self, metrics: Mapping[str, float]) -> float:
        """The sum of the constraints' violations; 0 for a feasible trial."""
        each = [c.violation(np.array(metrics[c.metric], np.float64)) for c in self.constraints]
        return float(sum(map(float, each)))

    def margins(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Each constraint's value in Optuna's form: above 0 where it is violated."""
        return {
            str(c): metrics[c.metric] - c.bound if c.sign == "<=" else c.bound - metrics[c.metric]
            for c in self.constraints
        }

    def missing(self, outcome: Outcome) -> list[str]:
        """The metrics that an evaluation should have given, and did not; empty if it failed."""
        if outcome.reason is not None:
            return []
        return [name for name in self.metrics if name not in outcome.metrics]

    def checked(self, outcome: Outcome) -> Outcome:
        """The outcome with its finite metrics, or a failed one where a required one is not."""
        finite = {name: v for name, v in outcome.metrics.items() if math.isfinite(v)}
        lost = [name for name in self.metrics if name not in finite]
        if outcome.reason is not None or not lost:
            return replace(outcome, metrics=finite)
        known = ", ".join(map(str, finite)) or "none"
        reason = f"the evaluator gave no finite '{lost[0]}'; its metrics: {known}"
        return replace(outcome, metrics={}, reason=reason)

    # -- of many -----------------------------------------------------------------------------

    def row(self, trial: Trial) -> Values:
        """A trial's values, higher is better, shape [objectives]; NaN without."""
        given = trial.values if self.several else (trial.value,)
        if len(given) != len(self.goals) or given[0] is None:
            return np.full(len(self.goals), np.nan)
        return self.signs * np.array(given, np.float64)

    def arrays(self, trials: Iterable[Trial]) -> tuple[Values, Values]:
        """Values, higher is better, shape [trials, objectives], and violations, shape [trials]."""
        trials = list(trials)
        values = np.array([self.row(t) for t in trials], np.float64)
        return (
            values.reshape(len(trials), len(self.goals)),
            np.array([t.violation for t in trials], np.float64),
        )

    def scores(self, values: Values, violations: Values, weights: Values | None = None) -> Values:
        """One score a trial, shape [trials]: scalarised with `weights`, or else by domination.

        A single objective needs no weights.
        """
        if self.plain:
            scores: Values = values[:, 0].copy()
            return scores
        if not self.several:
            return scalarised(values, violations, np.ones(1))
        if weights is not None:
            return scalarised(values, violations, weights)
        return _by_domination(values, violations)

    def history(
        self, space: SearchSpace, trials: Iterable[Trial], weights: Values | None = None
    ) -> History:
        """The history of `trials`, with such scores."""
        trials = list(trials)
        values, violations = self.arrays(trials)
        values[:, 0] = equal_fidelity(trials, values[:, 0], self.sign)
        return replace(
            History.of(space, trials),
            scores=self.scores(values, violations, weights),
            values=penalised(values, violations) if self.several else None,
        )


def _by_domination(values: Values, violations: Values) -> Values:
    """Minus the domination rank; the trial that changed the front last stands above the others."""
    scores = -domination_rank(values, violations)
    members = np.flatnonzero(front(values, violations))
    if len(members):
        _, first = np.unique(values[members], axis=0, return_index=True)
        scores[members[first.max()]] = 0.5
    return scores
