"""How a candidate is trained, and the defaults of each data set."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.tools.data.texts import NAMES as TEXTS

OPTIMIZERS = ("sgd", "adamw")


@dataclass(frozen=True)
class Recipe:
    """One optimizer, whose learning rate falls to 0 along a cosine.

    Raises ConfigError for a value with which nothing can be trained.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float = 0.0
    augment: bool = False
    """Random crops and mirror images, for photographs."""
    cutout: int = 0
    """Side in pixels of a square that each training image loses (arXiv 1708.04552); 0: none."""
    gradient_clip: float = 0.0
    """The largest norm of all gradients together; 0: any."""
    auxiliary_weight: float = 0.0
    """Of the loss of a network's `auxiliary_logits`, which it leaves after a forward pass in
    training mode; 0: they are not looked at."""
    warmup: int = 0
    """Epochs over which the learning rate first rises in equal steps."""
    data_fraction: float = 1.0
    """The share of the training data, in (0, 1]: a budget."""
    width: float = 1.0
    """A factor on the space's setting `channels`: a budget."""
    optimizer: str = "sgd"
    """sgd, with Nesterov momentum, or adamw."""

    def __post_init__(self) -> None:
        self._require("epochs", isinstance(self.epochs, int) and self.epochs >= 1, "integers >= 1")
        fits = isinstance(self.batch_size, int) and self.batch_size >= 2
        self._require("batch_size", fits, "integers >= 2, for the batch norm")
        self._require("learning_rate", 0 < self.learning_rate < float("inf"), "numbers > 0")
        self._require("weight_decay", 0 <= self.weight_decay < float("inf"), "numbers >= 0")
        self._require("label_smoothing", 0 <= self.label_smoothing < 1, "0 <= number < 1")
        self._require("cutout", isinstance(self.cutout, int) and self.cutout >= 0, "integers >= 0")
        self._require("gradient_clip", 0 <= self.gradient_clip < float("inf"), "numbers >= 0")
        self._require("auxiliary_weight", 0 <= self.auxiliary_weight < float("inf"), "numbers >= 0")
        rises = isinstance(self.warmup, int) and 0 <= self.warmup < self.epochs
        self._require("warmup", rises, f"integers from 0, below epochs = {self.epochs}")
        self._require("data_fraction", 0 < self.data_fraction <= 1, "0 < number <= 1")
        self._require("width", 0 < self.width < float("inf"), "numbers > 0")
        self._require("optimizer", self.optimizer in OPTIMIZERS, ", ".join(OPTIMIZERS))

    def _require(self, name: str, holds: bool, accepted: str) -> None:
        if not holds:
            raise ConfigError(f"{name} = {getattr(self, name)!r}; accepted: {accepted}")

    def identity(self) -> dict[str, Any]:
        """The settings as plain data; those that came later only where they are not the default,
        so that a run from before them goes on."""
        defaults = {field.name: field.default for field in fields(self)}
        return {k: v for k, v in asdict(self).items() if k in _ALWAYS or v != defaults[k]}

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step `step` (from 0) of `steps` an epoch, as a share of the full."""
        rising, whole = self.warmup * steps, self.epochs * steps
        if step < rising:
            return (step + 1) / rising
        return (1 + math.cos(math.pi * (step - rising) / (whole - rising))) / 2


_ALWAYS = (
    "epochs",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "label_smoothing",
    "augment",
    "steps",
)

REPORTED = ("val_accuracy", "val_loss", "train_loss")
"""The metrics that are known after each epoch."""


@dataclass(frozen=True)
class TextRecipe(Recipe):
    """For a text, of which there is no natural epoch; the learning rate rises first."""

    steps: int = 100
    """Batches an epoch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("steps", isinstance(self.steps, int) and self.steps >= 1, "integers >= 1")


NB201_ON_DIGITS = {"channels": 8, "cells": 1}
"""The size of the nb201 network that goes with the recipe for digits."""

RECIPES = {
    # Short and in large batches on purpose. Trained to the end, nearly every cell reaches 97 %,
    # and seeds then differ by more than cells do.
    "digits": Recipe(epochs=8, batch_size=200, learning_rate=0.05, weight_decay=5e-4),
    "cifar10": Recipe(12, 256, 0.1, 5e-4, augment=True),
    "cifar100": Recipe(12, 256, 0.1, 5e-4, augment=True),
    "folder": Recipe(12, 256, 0.1, 5e-4, augment=True),
}
OTHER = Recipe(12, 256, 0.1, 5e-4)
"""For the user's own data set."""

ADAMW: dict[str, Any] = {"learning_rate": 1e-3, "weight_decay": 0.05, "optimizer": "adamw"}
"""What replaces the values for SGD in the recipes above."""

TRANSFORMER_ON_DIGITS = Recipe(10, 50, 4e-3, 0.05, optimizer="adamw")
"""The recipe for digits with AdamW; short for the reason given above."""

TEXT = TextRecipe(4, 16, 6e-3, 0.1, optimizer="adamw")
CONTEXT = 64
"""Bytes that a language model sees at a time, unless said otherwise."""


def recipe_for(dataset: str, **given: Any) -> Recipe:
    """The recipe of a data set, with what is `given` and not None in its place."""
    given = {name: value for name, value in given.items() if value is not None}
    default = TEXT if dataset in TEXTS else RECIPES.get(dataset, OTHER)
    if given.get("optimizer") == "adamw" and default.optimizer != "adamw":
        default = TRANSFORMER_ON_DIGITS if dataset == "digits" else replace(default, **ADAMW)
    return replace(default, **given)
