"""Problems of several objectives, scored by the share of the table's hypervolume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lm_searcher.evals.problems import check_values
from lm_searcher.spaces.errors import ConfigError, TableError
from lm_searcher.spaces.ncode import NCode
from lm_searcher.spaces.objectives import Goal, Values, front, hypervolume, hypervolume_curve
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.table_files import load_table
from lm_searcher.spaces.tables import Table, joined
from lm_searcher.tools.evaluators.table import TableEvaluator
from lm_searcher.tools.protocols import Evaluator


@dataclass(frozen=True)
class FrontProblem:
    """Several metrics of tables of the same architectures.

    The value of a search is its hypervolume divided by that of the whole table, with the worst of
    each metric as the reference point. 1 is the best; the regret is the difference to 1.
    """

    table: Table
    goals: tuple[Goal, ...]

    sign = 1.0
    best = 1.0
    median = 0.0

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return self.table.space

    @cached_property
    def values(self) -> Values:
        """The metrics of each row, higher-is-better, shape [rows, objectives]."""
        return np.stack([g.sign * self.table.column(g.metric) for g in self.goals], axis=1)

    @cached_property
    def reference(self) -> Values:
        """The worst of each metric, shape [objectives]."""
        return np.asarray(self.values.min(axis=0))

    @cached_property
    def volume(self) -> float:
        """The hypervolume of the table's front."""
        on_front = front(self.values, np.zeros(len(self.values)))
        return hypervolume(self.values[on_front], self.reference)

    def evaluator(self) -> Evaluator:
        """The evaluator of a search."""
        return TableEvaluator(self.table, self.goals[0].metric)

    def shares(self, ncodes: Sequence[NCode]) -> list[float]:
        """The share of the hypervolume of the first 1, 2, ... architectures."""
        rows = [self.table.rows[code.tobytes()] for code in self.space.codes(ncodes)]
        values = np.array([self.values[row].mean(axis=0) for row in rows])
        curve = hypervolume_curve(values, np.zeros(len(values)), self.reference)
        return [float(v) for v in curve / self.volume]


def front_problem(
    path: str, join: Sequence[str], objectives: Sequence[tuple[str, str | None]]
) -> FrontProblem:
    """The problem of metrics of a table and of the tables `join`.

    A direction of None is replaced by that of the card. Raises TableError, ConfigError.
    """
    table = load_table(path)
    for other in join:
        table = joined(table, load_table(other))
    goals = tuple(
        Goal(metric, direction or table.directions.get(metric, "max"))
        for metric, direction in objectives
    )
    if len({goal.metric for goal in goals}) < max(2, len(goals)):
        raise ConfigError(f"objectives {[g.metric for g in goals]}; accepted: 2 or more metrics")
    for goal in goals:
        check_values(path, goal.metric, table.column(goal.metric))
    problem = FrontProblem(table, goals)
    best = problem.values[front(problem.values, np.zeros(len(table.codes)))]
    if (best == best[0]).all():
        raise TableError(f"table '{path}': one architecture is the best of all objectives")
    return problem
