"""The evaluator that builds a candidate's PyTorch model and trains it on a data set."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import ConfigError, EvaluatorError
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.datasets import Dataset, load_dataset, share
from lm_searcher.tools.evaluators.cost import costs_of
from lm_searcher.tools.evaluators.recipe import OTHER, RECIPES, Recipe
from lm_searcher.tools.latency import device_name, latency_ms, peak_memory
from lm_searcher.tools.protocols import Evaluation, Metrics, Report
from lm_searcher.tools.references import resolve


@dataclass
class TrainEvaluator:
    """Trains on a CUDA device where there is one, else on the CPU.

    Reports the objective after each epoch (the validation accuracy if that is not measured then).
    Metrics: val_accuracy and test_accuracy
    (fractions), val_loss, train_loss, params_m (millions), flops_m (millions for one image, a
    multiply-add counted as two), epochs; memory_mb, the most that a CUDA device held; with
    `latency` latency_ms, one image through the trained model. On a CPU the same seed gives the
    same values (but for latency), on the same machine and with as many threads; the number of
    threads is left to OMP_NUM_THREADS.

    What is None takes the data set's default of `recipe.RECIPES`. `compile` and `cuda_graph` are
    how the training step is run on the device (`faster.py`): one of them, and no part of what is
    measured.

    Several candidates on one GPU are as many workers of the executor, each with a CUDA context of
    its own (about half a gigabyte) and an equal share of the memory. In one process with a stream
    for each they would wait for each other's Python, which is what holds small networks back, and
    one that fails or runs out of memory would take the others with it. The GPU takes turns between
    processes unless NVIDIA's multi-process service runs (`nvidia-cuda-mps-control -d`).
    cuDNN's own search for algorithms stays off: each trial would search anew.
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
    compile: bool = False
    cuda_graph: bool = False
    latency: bool = False
    metric: str = "val_accuracy"
    direction: str = "max"
    deterministic: bool = False
    inline: bool = False

    @property
    def recipe(self) -> Recipe:
        """The settings of the training. Raises ConfigError for a bad one."""
        given = {field.name: getattr(self, field.name) for field in fields(Recipe)}
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
            **self.recipe.identity(),
            "builder": builder if isinstance(builder, str) else getattr(builder, "__name__", ""),
            "settings": dict(self.space.settings),
            **({"latency": device_name()} if self.latency else {}),
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

        if self.compile and self.cuda_graph:
            raise ConfigError("compile and cuda_graph are both true; accepted: one of them")
        data = self._data()
        _ = data.mean  # computed here, once, and not in every trial
        call = self._call(data)
        try:
            inspect.signature(self._builder).bind({}, **call)
        except TypeError as error:
            shown = ", ".join(f"{k}={v!r}" for k, v in call.items())
            raise EvaluatorError(
                f"builder of space '{self.space.name}' cannot be called as "
                f"builder(config, {shown}): {error}"
            ) from error

    def costs(self, codes: Codes, metrics: Collection[str]) -> Mapping[str, NDArray[np.float64]]:
        """See CostedEvaluator. Raises EvaluatorError, DatasetError."""
        data = self._data()
        size = data.shape[1]
        return costs_of(self.space, self._builder, self._call(data), size, codes, metrics)

    def _call(self, data: Dataset) -> dict[str, Any]:
        """The keywords of the builder."""
        return {"in_channels": data.shape[0], "classes": data.classes, **self.settings}

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        """Build, train, measure. Raises TrialFailure for a training that diverged."""
        import torch

        from lm_searcher.tools.evaluators import sgd

        if evaluation.budget:
            full = replace(self, **evaluation.budget)
            return full.evaluate(replace(evaluation, budget={}), report)
        data = self._data()
        random.seed(evaluation.seed)
        np.random.seed(evaluation.seed % 2**32)
        torch.manual_seed(evaluation.seed)
        model = self._builder(evaluation.config, **self._call(data))
        if not isinstance(model, torch.nn.Module):
            raise EvaluatorError(
                f"builder of space '{self.space.name}' returned a {type(model).__name__}; "
                "accepted: a torch.nn.Module"
            )
        metrics = sgd.train(
            model,
            data,
            self.recipe,
            seed=evaluation.seed,
            report=report,
            metric=self.metric,
            compile=self.compile,
            cuda_graph=self.cuda_graph,
            lap=self.lap,
        )
        if self.latency:
            metrics = {**metrics, "latency_ms": latency_ms(model, data.shape)}
        return {**metrics, **peak_memory()}

    def lap(self, part: str) -> None:
        """Told of each part of a trial that ends; for who measures. See `sgd.train`."""

    def _data(self) -> Dataset:
        fraction = self.recipe.data_fraction
        return _loaded(self.dataset, self.folder, self.image_size, self.cache, fraction)

    @property
    def settings(self) -> dict[str, Any]:
        """The space's settings at this width. Raises ConfigError for a space without one."""
        settings, width = dict(self.space.settings), self.recipe.width
        if width != 1:
            if "channels" not in settings:
                raise ConfigError(
                    f"width = {width:g} scales the setting `channels`, which space "
                    f"'{self.space.name}' has not; accepted: 1"
                )
            settings["channels"] = max(1, round(settings["channels"] * width))
        return settings

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
    name: str,
    folder: str | Path | None,
    image_size: int | None,
    cache: str | Path | None,
    fraction: float = 1.0,
) -> Dataset:
    # In the process, not in the evaluator: that is pickled to workers, and is to stay small.
    if fraction == 1:
        return load_dataset(name, folder, image_size, cache)
    return share(_loaded(name, folder, image_size, cache), fraction)
