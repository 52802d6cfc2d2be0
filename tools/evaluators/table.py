"""A tabular benchmark as the evaluator: the measurement is a look-up."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import TrialFailure
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.tables import Table
from lm_searcher.tools.protocols import Evaluation, Metrics, Report


@dataclass
class TableEvaluator:
    """Every metric of an architecture's rows, averaged where it has several.

    `known` are metrics that a search may look up before it has evaluated an architecture.
    """

    table: Table
    metric: str
    deterministic: bool = True
    inline: bool = True
    known: Sequence[str] = ()
    also: Sequence[str] = ()
    """Further metrics that a search looks at: objectives and constraints beside the first."""

    @property
    def direction(self) -> str:
        """The card's word for the metric, `max` without one."""
        return self.table.directions.get(self.metric, "max")

    def identity(self) -> dict[str, Any]:
        """See Evaluator. The content counts, not where the file lies."""
        return {
            "kind": "table",
            "metric": self.metric,
            "table": self.table.space.name,
            "digest": self.table.digest(self.metric),
            **({"also": {m: self.table.digest(m) for m in self.also}} if self.also else {}),
        }

    def prepare(self) -> None:
        """See Evaluator. Raises TableError if there is no such metric."""
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
