"""A tabular benchmark as the evaluator: the measurement is a look-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lm_searcher.spaces.errors import TrialFailure
from lm_searcher.spaces.table import Table
from lm_searcher.tools.protocols import Evaluation, Metrics, Report


@dataclass
class TableEvaluator:
    """Every metric of an architecture's rows, averaged where it has several."""

    table: Table
    metric: str
    deterministic: bool = True
    inline: bool = True

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
        }

    def prepare(self) -> None:
        """See Evaluator. Raises TableError if there is no such metric."""
        self.table.column(self.metric)

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
