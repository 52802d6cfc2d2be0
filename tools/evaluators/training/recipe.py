"""How a candidate is trained, and the defaults of each data set."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from lm_searcher.spaces.settings import SettingsModel
from lm_searcher.tools.data.texts import NAMES as TEXTS


def _whole(least: int, help: str) -> Any:
    return Field(ge=least, strict=True, description=help)


def _number(help: str, **bounds: Any) -> Any:
    return Field(strict=True, allow_inf_nan=False, description=help, **bounds)


# The keys of a recipe, with their bounds and help: declared once, since a recipe has a value for
# each key, while a run file may leave each key to the data set.
Epochs = Annotated[int, _whole(1, "Passes over the training data.")]
BatchSize = Annotated[int, _whole(2, "Samples a step; at least 2, for batch normalisation.")]
LearningRate = Annotated[float, _number("The optimizer's largest learning rate.", gt=0)]
WeightDecay = Annotated[float, _number("The optimizer's weight decay.", ge=0)]
LabelSmoothing = Annotated[float, _number("Images only: label smoothing of the loss.", ge=0, lt=1)]
Augment = Annotated[
    bool, Field(description="Images only: random crops and mirror images, for photographs.")
]
Cutout = Annotated[
    int,
    _whole(
        0,
        "Images only: side in pixels of a square that each training image loses (arXiv "
        "1708.04552); 0: none.",
    ),
]
GradientClip = Annotated[
    float, _number("Images only: the largest norm of all gradients together; 0: any.", ge=0)
]
AuxiliaryWeight = Annotated[
    float,
    _number(
        "Images only: weight of the loss of `auxiliary_logits`, which a network leaves after a "
        "forward pass in training mode; 0: they are not used.",
        ge=0,
    ),
]
Warmup = Annotated[
    int, _whole(0, "Images only: epochs over which the learning rate first rises in equal steps.")
]
DataFraction = Annotated[
    float, _number("Images only: share of the training data, a smaller budget.", gt=0, le=1)
]
Width = Annotated[
    float, _number("Images only: factor on the space's `channels`, a smaller budget.", gt=0)
]
Optimizer = Annotated[
    Literal["sgd", "adamw"], Field(description="sgd with Nesterov momentum, or adamw.")
]
Steps = Annotated[int, _whole(1, "Text only: batches an epoch.")]


class Recipe(SettingsModel):
    """One optimizer, whose learning rate falls to 0 along a cosine."""

    ROLE: ClassVar = "evaluator"

    epochs: Epochs
    batch_size: BatchSize
    learning_rate: LearningRate
    weight_decay: WeightDecay
    label_smoothing: LabelSmoothing = 0.0
    augment: Augment = False
    cutout: Cutout = 0
    gradient_clip: GradientClip = 0.0
    auxiliary_weight: AuxiliaryWeight = 0.0
    warmup: Warmup = 0
    data_fraction: DataFraction = 1.0
    width: Width = 1.0
    optimizer: Optimizer = "sgd"

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.warmup >= self.epochs:
            raise ValueError(
                f"warmup = {self.warmup}; accepted: integers from 0, below epochs = {self.epochs}"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """The settings as plain data. Settings that later versions added are left out where they
        have their default, so that a run of an earlier version can go on."""
        fields = type(self).model_fields
        values = self.model_dump()
        return {k: v for k, v in values.items() if k in _ALWAYS or v != fields[k].default}

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step `step` (from 0) with `steps` an epoch, as a share of the
        largest."""
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


class TextRecipe(Recipe):
    """For a text, which has no natural epoch; the learning rate rises first."""

    steps: Steps = 100


NB201_ON_DIGITS = {"channels": 8, "cells": 1}
"""The size of the nb201 network that goes with the recipe for digits."""

OTHER = Recipe(epochs=12, batch_size=256, learning_rate=0.1, weight_decay=5e-4)
"""For the user's own data set."""

RECIPES = {
    # Short and in large batches on purpose. Trained to the end, nearly every cell reaches 97 %,
    # and seeds then differ by more than cells do.
    "digits": Recipe(epochs=8, batch_size=200, learning_rate=0.05, weight_decay=5e-4),
    **dict.fromkeys(("cifar10", "cifar100", "folder"), OTHER.changed(augment=True)),
}

ADAMW: dict[str, Any] = {"learning_rate": 1e-3, "weight_decay": 0.05, "optimizer": "adamw"}
"""What replaces the values for SGD in the recipes above."""

TRANSFORMER_ON_DIGITS = Recipe(
    epochs=10, batch_size=50, learning_rate=4e-3, weight_decay=0.05, optimizer="adamw"
)
"""The recipe for digits with AdamW; short for the reason given above."""

TEXT = TextRecipe(epochs=4, batch_size=16, learning_rate=6e-3, weight_decay=0.1, optimizer="adamw")
CONTEXT = 64
"""Bytes that a language model sees at a time, unless said otherwise."""


def recipe_for(dataset: str, **given: Any) -> Recipe:
    """The recipe of a data set, with the values of `given` that are not None in place of its own.

    Raises ConfigError.
    """
    given = {name: value for name, value in given.items() if value is not None}
    default = TEXT if dataset in TEXTS else RECIPES.get(dataset, OTHER)
    if given.get("optimizer") == "adamw" and default.optimizer != "adamw":
        default = TRANSFORMER_ON_DIGITS if dataset == "digits" else default.changed(**ADAMW)
    return default.changed(**given)
