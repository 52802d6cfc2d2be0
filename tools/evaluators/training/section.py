"""[evaluator] kind = "train"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.evaluators.settings import EvaluatorSettings, RunInfo
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.evaluators.training.recipe import NB201_ON_DIGITS
from lm_searcher.tools.evaluators.training.settings import TrainOptions

ON_DIGITS: dict[str, dict[str, Any]] = {
    "darts": {"channels": 8, "cells": 3},
    "macro": {
        "widths": [8, 16, 24], "strides": [1, 2, 2], "depth": 3,
        "stem": 8, "stem_stride": 1, "head": 64,
    },
    "nb201": NB201_ON_DIGITS,
}  # fmt: skip
"""The size of a space's networks that suits the recipe for digits."""


class TrainSettings(EvaluatorSettings, TrainOptions):
    """[evaluator] kind = "train": build the PyTorch model and train it."""

    kind: Literal["train"] = "train"

    def make(self, space: SearchSpace, run: RunInfo) -> TrainEvaluator:
        """See EvaluatorSettings. Transformers train badly with SGD: their default is AdamW."""
        options = self.model_dump(exclude={"kind"})
        if self.dataset == "folder" and self.cache is None:
            options["cache"] = run.folder / ".images"
        if space.name == "transformer" and self.optimizer is None:
            options["optimizer"] = "adamw"
        return TrainEvaluator(space, **options)

    def space_defaults(self, space: str) -> Mapping[str, Any]:
        """See EvaluatorSettings."""
        if self.dataset == "digits":
            return ON_DIGITS.get(space, {})
        return {"kind": "decoder"} if space == "transformer" and self.of_text else {}
