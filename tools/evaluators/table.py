"""A tabular benchmark as the evaluator: the measurement is a look-up."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lm_searcher.spaces.errors import ConfigError, TrialFailure
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.table_files import load_table
from lm_searcher.spaces.tables import Table, joined
from lm_searcher.tools.evaluators.settings import EvaluatorSettings, RunInfo
from lm_searcher.tools.protocols import Evaluation, Metrics, Report


class TableSettings(EvaluatorSettings):
    """[evaluator] kind = "table": look the architecture up in a tabular benchmark."""

    kind: Literal["table"] = "table"
    path: Path
    """The table: .csv or .npz, or "builtin:NAME"."""
    metric: str | None = None
    """Default: the first objective."""
    join: list[Path] = Field(default_factory=list)
    """Tables of the same architectures with more metrics."""
    known: list[str] = Field(default_factory=list)
    """Metrics that may be looked up before an evaluation: constraints on them filter the pool."""
    positions: list[str] | None = None
    """CSV only: the columns that are decisions; default: all columns left of the metric."""

    def make(self, space: SearchSpace | None, run: RunInfo) -> TableEvaluator:
        """See EvaluatorSettings. Without a space, the table's own is searched."""
        metric = self.metric or run.metric
        if metric is None:
            raise ConfigError("[evaluator] metric is missing")
        named = None if self.join else metric  # which may be in one of the other tables
        table = load_table(self.path, metric=named, space=space, positions=self.positions)
        for path in self.join:
            table = joined(table, load_table(path))
        table.column(metric)
        return TableEvaluator(table, metric, known=self.known)


@dataclass
class TableEvaluator:
    """Every metric of an architecture's rows; the mean where an architecture has several rows.

    `known` are metrics that a search may look up before it has evaluated an architecture.
    """

    table: Table
    metric: str
    deterministic: bool = True
    inline: bool = True
    known: Sequence[str] = ()
    also: Sequence[str] = ()
    """The search's other objectives and constraints."""

    @property
    def direction(self) -> str:
        """What the table's card says of the metric; `max` without a card."""
        return self.table.directions.get(self.metric, "max")

    def identity(self) -> dict[str, Any]:
        """See Evaluator. The path is not part of it, a digest of the values is."""
        return {
            "kind": "table",
            "metric": self.metric,
            "table": self.table.space.name,
            "digest": self.table.digest(self.metric),
            **({"also": {m: self.table.digest(m) for m in self.also}} if self.also else {}),
        }

    def prepare(self) -> None:
        """See Evaluator. Raises TableError for a metric that the table does not have."""
        for metric in (self.metric, *self.known, *self.also):
            self.table.column(metric)

    def costs(self, codes: Codes, metrics: Collection[str]) -> Mapping[str, NDArray[np.float64]]:
        """See CostedEvaluator; NaN for an architecture that has no row. Raises TableError."""
        rows = [self.table.rows.get(code.tobytes(), []) for code in codes]
        first = np.array([found[0] if found else -1 for found in rows])
        costs = {}
        for metric in metrics:
            if metric in self.known:
                column = self.table.column(metric)
                costs[metric] = np.where(first < 0, np.nan, column[first])
                for i, found in enumerate(rows):
                    if len(found) > 1:
                        costs[metric][i] = np.mean(column[found])
        return costs

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        """See Evaluator. Raises TrialFailure for an architecture that has no row."""
        code = self.table.space.codes([evaluation.ncode])[0]
        rows = self.table.rows.get(code.tobytes())
        if rows is None:
            raise TrialFailure(f"table '{self.table.space.name}' has no row for this architecture")
        if len(rows) == 1:
            row = rows[0]
            return {name: float(values[row]) for name, values in self.table.metrics.items()}
        return {name: float(np.mean(v[rows])) for name, v in self.table.metrics.items()}
