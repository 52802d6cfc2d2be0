"""The evaluator that builds a candidate's PyTorch model and trains it on a data set."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.datasets import Dataset, load_dataset
from lm_searcher.tools.evaluators.recipe import OTHER, RECIPES, Recipe
from lm_searcher.tools.protocols import Evaluation, Metrics, Report
from lm_searcher.tools.references import resolve


@dataclass
class TrainEvaluator:
    """Trains on a CUDA device where there is one, else on the CPU.

    Reports the validation accuracy after each epoch. Metrics: val_accuracy and test_accuracy
    (fractions), val_loss, train_loss, params_m (millions), flops_m (millions for one image, a
    multiply-add counted as two), epochs. On a CPU the same seed gives the same values, on the
    same machine and with as many threads; the number of threads is left to OMP_NUM_THREADS.

    What is None takes the data set's default of `recipe.RECIPES`.
    """

    space: SearchSpace
    dataset: str = "digits"
    folder: str | Path | None = None
    image_size: int | None = None
    cache: str | Path | None = None
    """For `dataset` "folder": the side in pixels, and where decoded images are kept."""
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    label_smoothing: float | None = None
    metric: str = "val_accuracy"
    direction: str = "max"
    deterministic: bool = False
    inline: bool = False

    @property
    def recipe(self) -> Recipe:
        """The settings of the training. Raises ConfigError for a bad one."""
        names = ("epochs", "batch_size", "learning_rate", "weight_decay", "label_smoothing")
        given = {name: getattr(self, name) for name in names}
        return replace(
            RECIPES.get(self.dataset, OTHER), **{k: v for k, v in given.items() if v is not None}
        )

    def identity(self) -> dict[str, Any]:
        """The data set, the recipe, the builder and its settings; not where the data lies."""
        builder = self.space.builder
        return {
            "kind": "train",
            "dataset": self.dataset,
            **self._images(),
            **asdict(self.recipe),
            "builder": builder if isinstance(builder, str) else getattr(builder, "__name__", ""),
            "settings": dict(self.space.settings),
        }

    def _images(self) -> dict[str, Any]:
        """What decides on the values where the images are the user's own."""
        if self.dataset != "folder" or self.folder is None:
            return {}
        from lm_searcher.tools.image_folder import sources  # with Pillow

        return {"image_size": self.image_size, **sources(Path(self.folder))}

    def prepare(self) -> None:
        """Import torch, load the data, find the builder. Runs no torch operation.

        Raises EvaluatorError, DatasetError or ConfigError.
        """
        import lm_searcher.tools.evaluators.sgd  # noqa: F401  so that forked trials find it loaded

        _ = self.recipe
        data = _loaded(self.dataset, self.folder, self.image_size, self.cache)
        call = {"in_channels": data.shape[0], "classes": data.classes, **self.space.settings}
        try:
            inspect.signature(self._builder).bind({}, **call)
        except TypeError as error:
            shown = ", ".join(f"{k}={v!r}" for k, v in call.items())
            raise EvaluatorError(
                f"builder of space '{self.space.name}' cannot be called as "
                f"builder(config, {shown}): {error}"
            ) from error

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        """Build, train, measure. Raises TrialFailure for a training that diverged."""
        import torch

        from lm_searcher.tools.evaluators import sgd

        data = _loaded(self.dataset, self.folder, self.image_size, self.cache)
        random.seed(evaluation.seed)
        np.random.seed(evaluation.seed % 2**32)
        torch.manual_seed(evaluation.seed)
        model = self._builder(
            evaluation.config,
            in_channels=data.shape[0],
            classes=data.classes,
            **self.space.settings,
        )
        if not isinstance(model, torch.nn.Module):
            raise EvaluatorError(
                f"builder of space '{self.space.name}' returned a {type(model).__name__}; "
                "accepted: a torch.nn.Module"
            )
        return sgd.train(model, data, self.recipe, seed=evaluation.seed, report=report)

    @property
    def _builder(self) -> Callable[..., Any]:
        builder = self.space.builder
        if builder is None:
            raise EvaluatorError(
                f"space '{self.space.name}' has no builder; accepted: a function or "
                '"module:function", called as builder(config, in_channels=, classes=, **settings)'
            )
        if isinstance(builder, str):
            return resolve(builder, f"builder of space '{self.space.name}'", EvaluatorError)
        return builder


@cache
def _loaded(
    name: str, folder: str | Path | None, image_size: int | None, cache: str | Path | None
) -> Dataset:
    # In the process, not in the evaluator: that is pickled to workers, and is to stay small.
    return load_dataset(name, folder, image_size, cache)
