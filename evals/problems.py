"""Problems that rankers are compared on: objectives whose best value is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import TableError
from lm_searcher.spaces.ncode import NCode
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.table_files import load_table, table_path
from lm_searcher.spaces.tables import Table
from lm_searcher.tools.evaluators.table import TableEvaluator
from lm_searcher.tools.protocols import Evaluation, Evaluator, Metrics, Report


class Problem(Protocol):
    """An objective whose best value is known. Values have the objective's own sign."""

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        ...

    @property
    def sign(self) -> float:
        """1 if higher values are better, -1 if lower values are."""
        ...

    @property
    def best(self) -> float:
        """The best value in the space."""
        ...

    @property
    def median(self) -> float:
        """The median of all architectures' values."""
        ...

    def evaluator(self) -> Evaluator:
        """The evaluator of a search."""
        ...

    def value(self, ncode: NCode) -> float:
        """The true value of an architecture, without evaluation noise."""
        ...

    def test(self, ncode: NCode) -> float | None:
        """The test metric of an architecture; None if the problem has none."""
        ...


@dataclass(frozen=True)
class TableProblem:
    """A metric of a tabular benchmark.

    `seeds` are single-seed results, shape [rows, seeds], NaN where a seed is missing. With them,
    an evaluation returns the result of one seed; the true value is still the metric.
    """

    table: Table
    metric: str
    direction: str
    test_metric: str | None = None
    seeds: NDArray[np.float64] | None = None

    @property
    def space(self) -> SearchSpace:
        """See Problem."""
        return self.table.space

    @property
    def sign(self) -> float:
        """See Problem."""
        return 1.0 if self.direction == "max" else -1.0

    @cached_property
    def best(self) -> float:
        """See Problem."""
        return self.sign * float((self.sign * self.table.column(self.metric)).max())

    @cached_property
    def median(self) -> float:
        """See Problem."""
        return float(np.median(self.table.column(self.metric)))

    def evaluator(self) -> Evaluator:
        """See Problem."""
        if self.seeds is None:
            return TableEvaluator(self.table, self.metric)
        return SeedEvaluator(self.table, self.metric, deterministic=False, seeds=self.seeds)

    def value(self, ncode: NCode) -> float:
        """See Problem."""
        return self._look_up(self.metric, ncode)

    def test(self, ncode: NCode) -> float | None:
        """See Problem."""
        return self._look_up(self.test_metric, ncode) if self.test_metric else None

    def _look_up(self, metric: str, ncode: NCode) -> float:
        rows = self.table.rows[self.table.space.codes([ncode])[0].tobytes()]
        return float(np.mean(self.table.column(metric)[rows]))


@dataclass
class SeedEvaluator(TableEvaluator):
    """A table look-up with the noise of single trainings."""

    seeds: NDArray[np.float64] | None = None

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        """The result of one of the architecture's seeds."""
        assert self.seeds is not None
        row = self.table.rows[self.table.space.codes([evaluation.ncode])[0].tobytes()][0]
        known = self.seeds[row][~np.isnan(self.seeds[row])]
        return {self.metric: float(known[evaluation.seed % len(known)])}


def table_problem(
    path: str,
    metric: str,
    test_metric: str | None = None,
    direction: str | None = None,
    seed_metric: str | None = None,
) -> TableProblem:
    """The problem of a table's metric. Raises TableError.

    `seed_metric` is an array of the table, or of the file `NAME_seeds.npz` beside it.
    """
    table = load_table(path, metric=metric)
    for name in filter(None, (metric, test_metric)):
        check_values(path, name, table.column(name))
    problem = TableProblem(
        table, metric, direction or table.directions.get(metric, "max"), test_metric
    )
    if seed_metric is None:
        return problem
    return replace(problem, seeds=_single_seeds(table_path(path), table, seed_metric))


def check_values(path: str, name: str, values: NDArray[np.float64]) -> None:
    """Raises TableError if the metric is not finite everywhere, or is constant."""
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise TableError(
            f"table '{path}': '{name}' is {values[bad[0]]} in row {bad[0]} and in {len(bad) - 1} "
            "others; every row wants a finite number"
        )
    if np.ptp(values) == 0:
        raise TableError(f"table '{path}': '{name}' is {values[0]} in every row: nothing to find")


def _single_seeds(path: Path, table: Table, name: str) -> NDArray[np.float64]:
    if name in table.metrics:
        return table.metrics[name][:, None]
    beside = path.with_name(f"{path.stem}_seeds.npz")
    if not beside.is_file():
        raise TableError(f"table '{path}' has no '{name}', and there is no '{beside.name}'")
    with np.load(beside, allow_pickle=False) as file:
        names: Sequence[str] = file.files
        if name not in names:
            raise TableError(f"table '{beside}' has no '{name}' (it has: {', '.join(names)})")
        seeds = np.asarray(file[name], dtype=np.float64)
        same = "codes" in names and np.array_equal(file["codes"], table.codes)
    if not same or seeds.ndim != 2:
        raise TableError(
            f"table '{beside}': '{name}' is not one row of seeds for each of the table"
        )
    return seeds
