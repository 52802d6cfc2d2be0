"""Constraints: bounds on metrics."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import ConfigError

_PATTERN = re.compile(r"\s*(?P<metric>[^<>=\s]+)\s*(?P<sign><=|>=)\s*(?P<bound>\S+)\s*")


@dataclass(frozen=True)
class Constraint:
    """An upper or a lower bound on a metric."""

    metric: str
    sign: str
    """``<=`` or ``>=``."""
    bound: float

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """The constraint of a text such as ``params_m <= 1.0``. Raises ConfigError."""
        found = _PATTERN.fullmatch(text)
        try:
            bound = float(found["bound"]) if found else np.nan
        except ValueError:
            bound = np.nan
        if found is None or not np.isfinite(bound):
            raise ConfigError(
                f"constraint '{text}'; accepted: a metric, <= or >=, and a number, "
                "such as 'params_m <= 1.0'"
            )
        return cls(found["metric"], found["sign"], bound)

    def __str__(self) -> str:
        short = f"{self.bound:g}"
        exact = short if float(short) == self.bound else repr(self.bound)
        return f"{self.metric} {self.sign} {exact}"

    def violation(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far each value lies beyond the bound, relative to max(1, |bound|); 0 within it."""
        excess = values - self.bound if self.sign == "<=" else self.bound - values
        return np.maximum(excess, 0.0) / max(1.0, abs(self.bound))
