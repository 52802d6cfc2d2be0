"""Constraints that need no training: what is known to break one is not evaluated at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import NCodeError
from lm_searcher.spaces.ncode import Codes, NCode
from lm_searcher.spaces.objectives import Constraint, Values
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import CostedEvaluator

REMEMBERED = 200_000
"""Architectures whose violation is kept; a long run over a huge space draws ever new ones."""


class Feasibility:
    """The constraints on metrics that an evaluator knows of an architecture beforehand.

    A cost that is not known of one architecture (NaN) bars nothing: measuring will tell.
    """

    def __init__(
        self, space: SearchSpace, evaluator: CostedEvaluator, constraints: Sequence[Constraint]
    ) -> None:
        self.space, self.evaluator = space, evaluator
        self.constraints = tuple(constraints)
        self._told: dict[bytes, tuple[float, ...]] = {}

    @classmethod
    def of(
        cls, space: SearchSpace, evaluator: Any, constraints: Sequence[Constraint]
    ) -> Feasibility | None:
        """None where nothing of that kind is known. Raises UserError where costs cannot be told."""
        if not constraints or not isinstance(evaluator, CostedEvaluator):
            return None
        one = space.sample(1, np.random.default_rng(0))
        found = evaluator.costs(one, [c.metric for c in constraints])
        known = [c for c in constraints if c.metric in found]
        return cls(space, evaluator, known) if known else None

    def __str__(self) -> str:
        return " and ".join(map(str, self.constraints))

    def costs(self, codes: Codes) -> Values:
        """The metric of each constraint, shape [n, constraints]; each is asked for once."""
        rows = [code.tobytes() for code in codes]
        new = [i for i, row in enumerate(rows) if row not in self._told]
        if len(self._told) + len(new) > REMEMBERED:
            self._told, new = {}, list(range(len(rows)))
        if new:
            told = self.evaluator.costs(codes[new], [c.metric for c in self.constraints])
            columns = [told[c.metric].tolist() for c in self.constraints]
            self._told.update(zip((rows[i] for i in new), zip(*columns, strict=True), strict=True))
        found = np.array([self._told[row] for row in rows], np.float64)
        return found.reshape(len(rows), len(self.constraints))

    def violations(self, codes: Codes) -> Values:
        """By how much each architecture is known to overstep the constraints, shape [n]."""
        columns = zip(self.constraints, self.costs(codes).T, strict=True)
        each = [constraint.violation(column) for constraint, column in columns]
        return np.asarray(np.nan_to_num(each, nan=0.0).sum(axis=0), np.float64)

    def permitted(self, codes: Codes) -> NDArray[np.bool_]:
        """Which architectures keep the constraints as far as is known, shape [n]."""
        return self.violations(codes) <= 0

    def check(self, ncode: NCode) -> NCode:
        """The NCode itself; raises NCodeError that says which constraint it breaks."""
        (values,) = self.costs(self.space.codes([self.space.check(ncode)]))
        for constraint, value in zip(self.constraints, values, strict=True):
            if constraint.violation(value) > 0:
                raise NCodeError(
                    f"'{ncode}' has {constraint.metric} = {value:.6g}, "
                    f"which breaks the constraint {constraint}"
                )
        return ncode

    def nearest(self, codes: Codes) -> str:
        """The best end of each cost among some codes, in words."""
        ends = []
        for constraint, column in zip(self.constraints, self.costs(codes).T, strict=True):
            most = constraint.sign == "<="
            end = np.nanmin(column) if most else np.nanmax(column)
            ends.append(f"the {'least' if most else 'greatest'} {constraint.metric} is {end:.6g}")
        return ", ".join(ends)
