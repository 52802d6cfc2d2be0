"""How an adapter, or an embedded base, is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lm_searcher.spaces.errors import ConfigError


@dataclass(frozen=True)
class Fit:
    """AdamW; the learning rate falls to 0 along a cosine. Raises ConfigError."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name, holds, accepted in (
            ("epochs", self.epochs >= 1, "integers >= 1"),
            ("batch_size", self.batch_size >= 1, "integers >= 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "numbers > 0"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "numbers >= 0"),
        ):
            if not holds:
                raise ConfigError(f"{name} = {getattr(self, name)!r}; accepted: {accepted}")
