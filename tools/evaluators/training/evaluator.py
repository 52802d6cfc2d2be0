"""The evaluator that builds a candidate's PyTorch model and trains it on a data set."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.data.image_dataset import Dataset
from lm_searcher.tools.data.texts import NAMES as TEXTS
from lm_searcher.tools.data.texts import Text
from lm_searcher.tools.evaluators.seeding import seed_generators
from lm_searcher.tools.evaluators.training import loading
from lm_searcher.tools.evaluators.training.builder import (
    build,
    check_call,
    recorded_name,
    scaled_settings,
)
from lm_searcher.tools.evaluators.training.cost import costs_of, flops_by_formula
from lm_searcher.tools.evaluators.training.latency import device_name, latency_ms, peak_memory
from lm_searcher.tools.evaluators.training.recipe import CONTEXT, Recipe, TextRecipe, recipe_for
from lm_searcher.tools.protocols import Evaluation, Metrics, Report

if TYPE_CHECKING:
    from torch import nn

OF_TEXT = ("steps", "context")
OF_IMAGES = (
    *("label_smoothing", "augment", "cutout", "auxiliary_weight", "warmup", "gradient_clip"),
    *("data_fraction", "width", "compile", "cuda_graph", "latency"),
)
"""Settings that only one kind of data has."""


@dataclass
class TrainEvaluator:
    """Trains on a CUDA device if there is one, else on the CPU.

    Metrics for images: val_accuracy and test_accuracy (fractions), val_loss, train_loss, params_m
    (millions), flops_m (millions for one image, a multiply-add counted as two), epochs; with
    `latency` also latency_ms, of one image through the trained model. Metrics for text: val_loss,
    test_loss, train_loss (nats a byte), val_bpb (bits a byte), params_m, flops_m (for one window
    of `context` bytes), epochs. On a CUDA device also memory_mb, the peak. After each epoch the
    objective is reported, or val_accuracy (text: val_loss) if it is measured at the end only.

    On a CPU the same seed gives the same values (except latency) on the same machine with as many
    threads; OMP_NUM_THREADS sets their number. None stands for the default of the data set's
    recipe, and an empty `metric` or `direction` for that of the kind of data. `compile` and
    `cuda_graph` (see `acceleration`) exclude each other and do not belong to the identity.
    cuDNN's search for algorithms stays off, because each trial would repeat it.
    """

    budgets: ClassVar = ("epochs", "data_fraction", "width")

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
    augment: bool | None = None
    cutout: int | None = None
    gradient_clip: float | None = None
    auxiliary_weight: float | None = None
    warmup: int | None = None
    data_fraction: float | None = None
    width: float | None = None
    optimizer: str | None = None
    steps: int | None = None
    context: int | None = None
    compile: bool = False
    cuda_graph: bool = False
    latency: bool = False
    metric: str = ""
    direction: str = ""
    deterministic: bool = False
    inline: bool = False

    def __post_init__(self) -> None:
        self.metric = self.metric or ("val_loss" if self.of_text else "val_accuracy")
        self.direction = self.direction or ("min" if self.of_text else "max")

    @property
    def of_text(self) -> bool:
        """Whether a language model is trained."""
        return self.dataset in TEXTS

    @property
    def recipe(self) -> Recipe:
        """The settings of the training. Raises ConfigError for a bad one."""
        for name in OF_IMAGES if self.of_text else OF_TEXT:
            if getattr(self, name) not in (None, False):
                kind = "text" if self.of_text else "images"
                raise ConfigError(f"{name} is no setting for dataset '{self.dataset}', {kind}")
        if self.context is not None and not (isinstance(self.context, int) and self.context >= 1):
            raise ConfigError(f"context = {self.context!r}; accepted: integers >= 1")
        names = {field.name for kind in (Recipe, TextRecipe) for field in fields(kind)}
        return recipe_for(self.dataset, **{name: getattr(self, name) for name in names})

    def identity(self) -> dict[str, Any]:
        """The data set, the recipe, the builder and its settings; not the paths of the data.

        For a text also its digest: Python's documentation differs from version to version.
        Raises DatasetError for a text that cannot be read.
        """
        data = self.data if self.of_text else None
        own_images = self.folder if self.dataset == "folder" else None
        return {
            "kind": "train",
            "dataset": self.dataset,
            **(loading.image_identity(own_images, self.image_size) if own_images else {}),
            **self.recipe.identity(),
            "builder": recorded_name(self.space),
            "settings": dict(self.space.settings),
            **({"latency": device_name()} if self.latency else {}),
            **({"context": data.context, "digest": data.digest} if isinstance(data, Text) else {}),
        }

    @property
    def data(self) -> Dataset | Text:
        """The data that candidates are trained on; loaded once a process. Raises DatasetError."""
        if self.of_text:
            context = CONTEXT if self.context is None else self.context
            return loading.text(self.dataset, self.folder, context)
        fraction = self.recipe.data_fraction
        return loading.images(self.dataset, self.folder, self.image_size, self.cache, fraction)

    def prepare(self) -> None:
        """Import torch, load the data, find the builder. Runs no torch operation.

        Raises EvaluatorError, DatasetError or ConfigError.
        """
        # Trials are forked from this process, so what `evaluate` needs is imported once, here.
        for name in ("image_training", "language_training"):
            importlib.import_module(f"lm_searcher.tools.evaluators.training.{name}")
        if self.compile and self.cuda_graph:
            raise ConfigError("compile and cuda_graph are both true; accepted: one of them")
        _, data = self.recipe, self.data
        if isinstance(data, Dataset):
            _ = data.mean  # computed here, once, and not in every trial
        check_call(self.space, self._call(data), self.dataset)

    def costs(self, codes: Codes, metrics: Collection[str]) -> Mapping[str, NDArray[np.float64]]:
        """See CostedEvaluator. Raises EvaluatorError, DatasetError."""
        data = self.data
        shape = data.shape if isinstance(data, Dataset) else None
        return costs_of(self.space, self._call(data), shape, codes, metrics)

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        """Build, train, measure. Raises TrialFailure for a training that diverged."""
        if evaluation.budget:
            full = replace(self, **evaluation.budget)
            return full.evaluate(replace(evaluation, budget={}), report)
        data = self.data
        seed_generators(evaluation.seed)
        model = build(self.space, evaluation.config, self._call(data))
        if isinstance(data, Text):
            metrics = self._train_on_text(model, data, evaluation, report)
        else:
            metrics = self._train_on_images(model, data, evaluation, report)
        return {**metrics, **peak_memory()}

    def _train_on_text(
        self, model: nn.Module, data: Text, evaluation: Evaluation, report: Report
    ) -> Metrics:
        from lm_searcher.tools.evaluators.training import language_training

        recipe = self.recipe
        assert isinstance(recipe, TextRecipe)
        return language_training.train(
            model, data, recipe, seed=evaluation.seed, report=report, metric=self.metric
        )

    def _train_on_images(
        self, model: nn.Module, data: Dataset, evaluation: Evaluation, report: Report
    ) -> Metrics:
        from lm_searcher.tools.evaluators.training import image_training

        metrics = image_training.train(
            model,
            data,
            self.recipe,
            seed=evaluation.seed,
            report=report,
            metric=self.metric,
            flops=flops_by_formula(self.space, evaluation.config, self._call(data), data.shape),
            compile=self.compile,
            cuda_graph=self.cuda_graph,
            lap=self.lap,
        )
        if self.latency:
            metrics = {**metrics, "latency_ms": latency_ms(model, data.shape)}
        return metrics

    def lap(self, part: str) -> None:
        """Called at the end of each part of a trial; benchmarks override this method to time the
        parts. See `image_training.train`."""

    def _call(self, data: Dataset | Text) -> dict[str, Any]:
        """The keywords of the space's builder."""
        return {**data.call, **self.settings}

    @property
    def settings(self) -> dict[str, Any]:
        """The space's settings at this width. Raises ConfigError for a space without one."""
        return scaled_settings(self.space, self.recipe.width)
