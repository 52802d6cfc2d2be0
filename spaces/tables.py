"""Tabular benchmarks: metrics that were measured before, looked up by architecture.

A table need not have every architecture of its space: a search over it draws from its rows. So a
table with one row for each class of identical architectures is searched class by class.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import TableError, unknown
from lm_searcher.spaces.ncode import Codes, to_ncodes
from lm_searcher.spaces.space import Choice, SearchSpace


@dataclass(frozen=True)
class Table:
    """A search space with measured metrics."""

    space: SearchSpace
    codes: Codes
    """Shape [rows, positions]; a code may have several rows."""
    metrics: Mapping[str, NDArray[np.float64]]
    """Each of shape [rows]."""
    directions: Mapping[str, str]
    """`max` or `min`, for the metrics whose direction is known."""

    def column(self, metric: str) -> NDArray[np.float64]:
        """One metric, shape [rows]. Raises TableError that lists the table's metrics."""
        if metric not in self.metrics:
            raise TableError(
                f"table '{self.space.name}': " + unknown("metric", metric, self.metrics)
            )
        return self.metrics[metric]

    @cached_property
    def rows(self) -> dict[bytes, list[int]]:
        """Row numbers by code."""
        rows: dict[bytes, list[int]] = {}
        for i, code in enumerate(self.codes):
            rows.setdefault(code.tobytes(), []).append(i)
        return rows

    @property
    def complete(self) -> bool:
        """Whether every architecture of the space has a row."""
        return len(self.rows) == self.space.size

    def digest(self, metric: str) -> str:
        """A hash of the codes and one metric: the table's identity in a stored run."""
        content = self.codes.tobytes() + self.column(metric).tobytes()
        return hashlib.sha256(content).hexdigest()[:16]


def joined(table: Table, other: Table) -> Table:
    """`table` with the metrics of `other`, another table of the same architectures.

    A code that has several rows in `other` gets their mean. Raises TableError if the spaces
    differ, if an architecture is missing, or if both have a metric of the same name.
    """
    _check_joinable(table, other)
    rows = [other.rows[code.tobytes()] for code in table.codes]
    metrics = {
        name: np.array([values[r].mean() if len(r) > 1 else values[r[0]] for r in rows])
        for name, values in other.metrics.items()
    }
    return replace(
        table,
        metrics={**table.metrics, **metrics},
        directions={**table.directions, **other.directions},
    )


def _check_joinable(table: Table, other: Table) -> None:
    place = f"table '{other.space.name}'"
    options, others = table.space.cardinalities.tolist(), other.space.cardinalities.tolist()
    if options != others:
        raise TableError(
            f"{place} is of another space: {others} options, '{table.space.name}' has {options}"
        )
    if common := sorted(set(table.metrics) & set(other.metrics)):
        raise TableError(f"{place}: '{table.space.name}' has a metric '{common[0]}' too")
    missing = next((c for c in table.codes if c.tobytes() not in other.rows), None)
    if missing is not None:
        raise TableError(f"{place} has no row for '{to_ncodes(missing[None])[0]}'")


def numbers_or_text(options: Sequence[Any]) -> tuple[Choice, ...]:
    """The options as numbers if all are texts of different finite numbers, else unchanged."""
    if not all(isinstance(o, str) for o in options):
        return tuple(options)
    for kind in (int, float):
        try:
            numbers = tuple(kind(o) for o in options)
        except ValueError:
            continue
        if len(set(numbers)) == len(options) and all(map(math.isfinite, numbers)):
            return numbers
    return tuple(options)
