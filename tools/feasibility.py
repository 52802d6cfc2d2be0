"""Constraints that are checked before training: no infeasible candidate is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.constraints import Constraint
from lm_searcher.spaces.errors import NCodeError
from lm_searcher.spaces.ncode import Codes, NCode
from lm_searcher.spaces.objectives import Values
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import CostedEvaluator

CACHE_SIZE = 200_000
"""The most architectures whose costs are cached: a long run over a huge space draws new ones."""


class Feasibility:
    """The constraints on costs: the metrics that an evaluator computes without training.

    A constraint does not apply to an architecture whose cost is NaN (not computable): such an
    architecture counts as feasible until it has been trained.
    """

    def __init__(
        self, space: SearchSpace, evaluator: CostedEvaluator, constraints: Sequence[Constraint]
    ) -> None:
        self.space, self.evaluator = space, evaluator
        self.constraints = tuple(constraints)
        self._cache: dict[bytes, tuple[float, ...]] = {}
        """The costs of an architecture, one for each constraint."""

    @classmethod
    def of(
        cls, space: SearchSpace, evaluator: Any, constraints: Sequence[Constraint]
    ) -> Feasibility | None:
        """Of the constraints, those on costs of this evaluator; None if there are none.

        Raises UserError if the evaluator cannot compute costs.
        """
        if not constraints or not isinstance(evaluator, CostedEvaluator):
            return None
        example = space.sample(1, np.random.default_rng(0))
        costs = evaluator.costs(example, [c.metric for c in constraints])
        on_costs = [c for c in constraints if c.metric in costs]
        return cls(space, evaluator, on_costs) if on_costs else None

    def __str__(self) -> str:
        return " and ".join(map(str, self.constraints))

    def costs(self, codes: Codes) -> Values:
        """The metric of each constraint, shape [n, constraints], cached by architecture."""
        keys = [code.tobytes() for code in codes]
        missing = [i for i, key in enumerate(keys) if key not in self._cache]
        if len(self._cache) + len(missing) > CACHE_SIZE:
            self._cache, missing = {}, list(range(len(keys)))
        if missing:
            metrics = [c.metric for c in self.constraints]
            costs = self.evaluator.costs(codes[missing], metrics)
            rows = zip(*(costs[metric].tolist() for metric in metrics), strict=True)
            self._cache.update(zip((keys[i] for i in missing), rows, strict=True))
        values = np.array([self._cache[key] for key in keys], np.float64)
        return values.reshape(len(keys), len(self.constraints))

    def violations(self, codes: Codes) -> Values:
        """The sum of each architecture's constraint violations, shape [n]; 0 if feasible."""
        columns = zip(self.constraints, self.costs(codes).T, strict=True)
        each = [constraint.violation(column) for constraint, column in columns]
        return np.asarray(np.nan_to_num(each, nan=0.0).sum(axis=0), np.float64)

    def feasible(self, codes: Codes) -> NDArray[np.bool_]:
        """Which architectures violate no constraint on a cost, shape [n]."""
        return self.violations(codes) <= 0

    def check(self, ncode: NCode) -> NCode:
        """The NCode itself; raises NCodeError that names the constraint that it violates."""
        (values,) = self.costs(self.space.codes([self.space.check(ncode)]))
        for constraint, value in zip(self.constraints, values, strict=True):
            if constraint.violation(value) > 0:
                raise NCodeError(
                    f"'{ncode}' has {constraint.metric} = {value:.6g}, "
                    f"which breaks the constraint {constraint}"
                )
        return ncode

    def extremes(self, codes: Codes) -> str:
        """The value of each cost that comes closest to its bound among `codes`, for messages."""
        parts = []
        for constraint, column in zip(self.constraints, self.costs(codes).T, strict=True):
            upper = constraint.sign == "<="
            value = np.nanmin(column) if upper else np.nanmax(column)
            parts.append(
                f"the {'least' if upper else 'greatest'} {constraint.metric} is {value:.6g}"
            )
        return ", ".join(parts)
