"""The evaluator that builds a candidate's PyTorch model and trains it on a data set."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import ConfigError, EvaluatorError
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import Config, SearchSpace
from lm_searcher.tools.data.datasets import NAMES, Dataset, load_dataset, share
from lm_searcher.tools.data.texts import NAMES as TEXTS
from lm_searcher.tools.data.texts import Text, load_text
from lm_searcher.tools.evaluators.training.cost import costs_of
from lm_searcher.tools.evaluators.training.latency import device_name, latency_ms, peak_memory
from lm_searcher.tools.evaluators.training.recipe import CONTEXT, Recipe, TextRecipe, recipe_for
from lm_searcher.tools.evaluators.training.settings import TrainOptions
from lm_searcher.tools.importing import resolve
from lm_searcher.tools.protocols import Evaluation, Metrics, Report

OF_TEXT = ("steps", "context")
OF_IMAGES = (
    *("label_smoothing", "augment", "cutout", "auxiliary_weight", "warmup", "gradient_clip"),
    *("data_fraction", "width", "compile", "cuda_graph", "latency"),
)
"""Settings that only one kind of data has."""


class TrainEvaluator:
    """Trains on a CUDA device where there is one, else on the CPU.

    Of images it reports the objective after each epoch (the validation accuracy if that is not
    measured then). Metrics: val_accuracy and test_accuracy (fractions), val_loss, train_loss,
    params_m (millions), flops_m (millions for one image, a multiply-add counted as two), epochs;
    with `latency` latency_ms, one image through the trained model. Of text it reports the
    objective too (or else the validation loss). Metrics: val_loss, test_loss, train_loss (nats a
    byte), val_bpb (bits a byte), params_m, flops_m (for one window of `context` bytes), epochs.
    On a CUDA device also memory_mb, the most that it held. On a CPU the same seed gives the same
    values (but for latency), on the same machine and with as many threads; the number of threads
    is left to OMP_NUM_THREADS.

    `options` are keys of TrainOptions; a key that is left out takes the data set's default of
    `recipe`, and so do `metric` and `direction` where they are empty. Raises ConfigError for a
    bad option. `compile` and `cuda_graph` are how the training step is run on the device
    (`faster.py`): one of them, and no part of what is measured.

    Several candidates on one GPU are as many workers of the executor, each with a CUDA context of
    its own (about half a gigabyte) and an equal share of the memory. In one process with a stream
    for each they would wait for each other's Python, which is what holds small networks back, and
    one that fails or runs out of memory would take the others with it. The GPU takes turns between
    processes unless NVIDIA's multi-process service runs (`nvidia-cuda-mps-control -d`).
    cuDNN's own search for algorithms stays off: each trial would search anew.
    """

    budgets: ClassVar = ("epochs", "data_fraction", "width")

    deterministic: bool = False
    inline: bool = False

    def __init__(
        self, space: SearchSpace, *, metric: str = "", direction: str = "", **options: Any
    ) -> None:
        self.space, self.options = space, TrainOptions(**options)
        self.metric = metric or ("val_loss" if self.of_text else "val_accuracy")
        self.direction = direction or ("min" if self.of_text else "max")

    def at(self, budget: Mapping[str, Any]) -> Self:
        """The same evaluator with other values of `budgets`. Raises ConfigError."""
        other = copy(self)
        other.options = self.options.changed(**budget)
        return other

    @property
    def of_text(self) -> bool:
        """Whether a language model is trained."""
        return self.options.of_text

    @property
    def recipe(self) -> Recipe:
        """The settings of the training. Raises ConfigError for a bad one."""
        for name in OF_IMAGES if self.of_text else OF_TEXT:
            if getattr(self.options, name) not in (None, False):
                kind = "text" if self.of_text else "images"
                dataset = self.options.dataset
                raise ConfigError(f"{name} is no setting for dataset '{dataset}', {kind}")
        given = self.options.model_dump(include=set(TextRecipe.model_fields))
        return recipe_for(self.options.dataset, **given)

    def identity(self) -> dict[str, Any]:
        """The data set, the recipe, the builder and its settings; not where the data lies.

        Of a text a digest: that of Python's documentation differs from version to version.
        Raises DatasetError for a text that cannot be read.
        """
        builder = self.space.builder
        data = self.data if self.of_text else None
        return {
            "kind": "train",
            "dataset": self.options.dataset,
            **self._images(),
            **self.recipe.identity(),
            "builder": builder if isinstance(builder, str) else getattr(builder, "__name__", ""),
            "settings": dict(self.space.settings),
            **({"latency": device_name()} if self.options.latency else {}),
            **({"context": data.context, "digest": data.digest} if isinstance(data, Text) else {}),
        }

    def _images(self) -> dict[str, Any]:
        """What decides on the values where the images are the user's own."""
        if self.options.dataset != "folder" or self.options.folder is None:
            return {}
        from lm_searcher.tools.data.image_folder import sources  # with Pillow

        return {"image_size": self.options.image_size, **sources(Path(self.options.folder))}

    @property
    def data(self) -> Dataset | Text:
        """What is learned; loaded once a process. Raises DatasetError."""
        options = self.options
        if self.of_text:
            context = CONTEXT if options.context is None else options.context
            return _text(options.dataset, options.folder, context)
        return _images(
            options.dataset,
            options.folder,
            options.image_size,
            options.cache,
            self.recipe.data_fraction,
        )

    def prepare(self) -> None:
        """Import torch, load the data, find the builder. Runs no torch operation.

        Raises EvaluatorError, DatasetError or ConfigError.
        """
        # So that forked trials find it loaded.

        if self.options.compile and self.options.cuda_graph:
            raise ConfigError("compile and cuda_graph are both true; accepted: one of them")
        _, data = self.recipe, self.data
        if isinstance(data, Dataset):
            _ = data.mean  # computed here, once, and not in every trial
        call = {**data.call, **self.settings}
        signature = inspect.signature(self._builder)
        try:
            signature.bind({}, **call)
        except TypeError as error:
            self._check_kind(signature.parameters)
            shown = ", ".join(f"{k}={v!r}" for k, v in call.items())
            raise EvaluatorError(
                f"builder of space '{self.space.name}' cannot be called as "
                f"builder(config, {shown}): {error}"
            ) from error

    def costs(self, codes: Codes, metrics: Collection[str]) -> Mapping[str, NDArray[np.float64]]:
        """See CostedEvaluator. Raises EvaluatorError, DatasetError."""
        data = self.data
        call = {**data.call, **self.settings}
        size = {"image_size": data.shape[1]} if isinstance(data, Dataset) else {}
        if isinstance(data, Dataset) and not _square(data):
            metrics = {*metrics} - {"flops_m"}  # the formulas are of square images
        return costs_of(self.space, self._builder, call, size, codes, metrics)

    def _check_kind(self, parameters: Iterable[str]) -> None:
        """Raises EvaluatorError for a builder of networks for images that gets text, or the
        other way round: one takes in_channels, the other context."""
        for_text, for_images = "context" in parameters, "in_channels" in parameters
        if self.of_text and for_images and not for_text:
            takes, gets, accepted = "images", "text", f"{', '.join(NAMES)}, or of space"
            accepted += " 'transformer' kind = \"decoder\""
        elif not self.of_text and for_text and not for_images:
            takes, gets, accepted = "text", "images", f"{', '.join(TEXTS)}, or of space"
            accepted += " 'transformer' kind = \"encoder\""
        else:
            return
        dataset = self.options.dataset
        raise EvaluatorError(
            f"space '{self.space.name}' builds networks for {takes}, dataset '{dataset}' is "
            f"{gets}; accepted: dataset {accepted}"
        )

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        """Build, train, measure. Raises TrialFailure for a training that diverged."""
        import torch

        from lm_searcher.tools.evaluators.training import image_training, language_training

        if evaluation.budget:
            full = self.at(evaluation.budget)
            return full.evaluate(replace(evaluation, budget={}), report)
        data, seed = self.data, evaluation.seed
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        model = self._builder(evaluation.config, **data.call, **self.settings)
        if not isinstance(model, torch.nn.Module):
            raise EvaluatorError(
                f"builder of space '{self.space.name}' returned a {type(model).__name__}; "
                "accepted: a torch.nn.Module"
            )
        recipe = self.recipe
        if isinstance(data, Text):
            assert isinstance(recipe, TextRecipe)
            metrics = language_training.train(
                model, data, recipe, seed=seed, report=report, metric=self.metric
            )
            return {**metrics, **peak_memory()}
        metrics = image_training.train(
            model,
            data,
            recipe,
            seed=seed,
            report=report,
            metric=self.metric,
            flops=self._known_flops(evaluation.config, data),
            compile=self.options.compile,
            cuda_graph=self.options.cuda_graph,
            lap=self.lap,
        )
        if self.options.latency:
            metrics = {**metrics, "latency_ms": latency_ms(model, data.shape)}
        return {**metrics, **peak_memory()}

    def _known_flops(self, config: Config, data: Dataset) -> float | None:
        """By the space's formula, which is exact; counting takes longer than a forward pass."""
        if self.space.cost is None or not _square(data):
            return None
        call = {"image_size": data.shape[1], **data.call, **self.settings}
        return self.space.cost(config, **call).get("flops_m")

    def lap(self, part: str) -> None:
        """Told of each part of a trial that ends; for who measures. See `sgd.train`."""

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


def _square(data: Dataset) -> bool:
    return data.shape[1] == data.shape[2]


@cache
def _images(
    name: str,
    folder: str | Path | None,
    image_size: int | None,
    cache: str | Path | None,
    fraction: float,
) -> Dataset:
    # In the process, not in the evaluator: that is pickled to workers, and is to stay small.
    if fraction == 1:
        return load_dataset(name, folder, image_size, cache)
    return share(_images(name, folder, image_size, cache, 1), fraction)


@cache
def _text(name: str, folder: str | Path | None, context: int) -> Text:
    return load_text(name, folder, context)
