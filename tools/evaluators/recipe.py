"""How a candidate is trained, and the defaults of each data set."""

from __future__ import annotations

from dataclasses import dataclass

from lm_searcher.spaces.errors import ConfigError


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum; the learning rate falls to 0 along a cosine.

    Raises ConfigError for a value with which nothing can be trained.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float = 0.0
    augment: bool = False
    """Random crops and mirror images, for photographs."""

    def __post_init__(self) -> None:
        self._require("epochs", isinstance(self.epochs, int) and self.epochs >= 1, "integers >= 1")
        fits = isinstance(self.batch_size, int) and self.batch_size >= 2
        self._require("batch_size", fits, "integers >= 2, for the batch norm")
        self._require("learning_rate", 0 < self.learning_rate < float("inf"), "numbers > 0")
        self._require("weight_decay", 0 <= self.weight_decay < float("inf"), "numbers >= 0")
        self._require("label_smoothing", 0 <= self.label_smoothing < 1, "0 <= number < 1")

    def _require(self, name: str, holds: bool, accepted: str) -> None:
        if not holds:
            raise ConfigError(f"{name} = {getattr(self, name)!r}; accepted: {accepted}")


NB201_ON_DIGITS = {"channels": 8, "cells": 1}
"""The size of the nb201 network that goes with the recipe for digits."""

RECIPES = {
    # Short and in large batches on purpose. Trained to the end, nearly every cell reaches 97 %,
    # and seeds then differ by more than cells do.
    "digits": Recipe(epochs=6, batch_size=200, learning_rate=0.05, weight_decay=5e-4),
    "cifar10": Recipe(12, 256, 0.1, 5e-4, augment=True),
    "cifar100": Recipe(12, 256, 0.1, 5e-4, augment=True),
}
OTHER = Recipe(12, 256, 0.1, 5e-4)
"""For the user's own data set."""
