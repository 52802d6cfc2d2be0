"""The evaluator that builds a candidate's PyTorch model and trains it on a data set."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lm_searcher.spaces.errors import ConfigError, EvaluatorError
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.datasets import NAMES, Dataset, load_dataset
from lm_searcher.tools.evaluators.recipe import CONTEXT, Recipe, TextRecipe, recipe_for
from lm_searcher.tools.protocols import Evaluation, Metrics, Report
from lm_searcher.tools.references import resolve
from lm_searcher.tools.texts import NAMES as TEXTS
from lm_searcher.tools.texts import Text, load_text


@dataclass
class TrainEvaluator:
    """Trains on a CUDA device where there is one, else on the CPU.

    Of images it reports the validation accuracy after each epoch. Metrics: val_accuracy and
    test_accuracy (fractions), val_loss, train_loss, params_m (millions), flops_m (millions for
    one image, a multiply-add counted as two), epochs. Of text it reports the validation loss.
    Metrics: val_loss, test_loss, train_loss (nats a byte), val_bpb (bits a byte), params_m,
    flops_m (for one window of `context` bytes), epochs.

    On a CPU the same seed gives the same values, on the same machine and with as many threads;
    the number of threads is left to OMP_NUM_THREADS. What is None takes the data set's default
    of `recipe`, and so do `metric` and `direction` where they are empty.
    """

    space: SearchSpace
    dataset: str = "digits"
    folder: str | Path | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    label_smoothing: float | None = None
    optimizer: str | None = None
    steps: int | None = None
    context: int | None = None
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
        for name, there in (
            ("steps", self.of_text),
            ("context", self.of_text),
            ("label_smoothing", not self.of_text),
        ):
            if getattr(self, name) is not None and not there:
                kind = "text" if self.of_text else "images"
                raise ConfigError(f"{name} is no setting for dataset '{self.dataset}', {kind}")
        if self.context is not None and not (isinstance(self.context, int) and self.context >= 1):
            raise ConfigError(f"context = {self.context!r}; accepted: integers >= 1")
        names = (
            "epochs", "batch_size", "learning_rate", "weight_decay", "label_smoothing",
            "optimizer", "steps",
        )  # fmt: skip
        return recipe_for(self.dataset, **{name: getattr(self, name) for name in names})

    def identity(self) -> dict[str, Any]:
        """The data set, the recipe, the builder and its settings; not where the data lies.

        Of a text a digest: that of Python's documentation differs from version to version.
        Raises DatasetError for a text that cannot be read.
        """
        builder = self.space.builder
        data = self.data if self.of_text else None
        return {
            "kind": "train",
            "dataset": self.dataset,
            **asdict(self.recipe),
            "builder": builder if isinstance(builder, str) else getattr(builder, "__name__", ""),
            "settings": dict(self.space.settings),
            **({"context": data.context, "digest": data.digest} if isinstance(data, Text) else {}),
        }

    @property
    def data(self) -> Dataset | Text:
        """What is learned; loaded once a process. Raises DatasetError."""
        return _loaded(self.dataset, self.folder, self.context)

    def prepare(self) -> None:
        """Import torch, load the data, find the builder. Runs no torch operation.

        Raises EvaluatorError, DatasetError or ConfigError.
        """
        # So that forked trials find it loaded.
        import lm_searcher.tools.evaluators.language
        import lm_searcher.tools.evaluators.sgd  # noqa: F401

        _ = self.recipe
        call = {**self.data.call, **self.space.settings}
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
        raise EvaluatorError(
            f"space '{self.space.name}' builds networks for {takes}, dataset '{self.dataset}' is "
            f"{gets}; accepted: dataset {accepted}"
        )

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        """Build, train, measure. Raises TrialFailure for a training that diverged."""
        import torch

        from lm_searcher.tools.evaluators import language, sgd

        data, seed = self.data, evaluation.seed
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        model = self._builder(evaluation.config, **data.call, **self.space.settings)
        if not isinstance(model, torch.nn.Module):
            raise EvaluatorError(
                f"builder of space '{self.space.name}' returned a {type(model).__name__}; "
                "accepted: a torch.nn.Module"
            )
        recipe = self.recipe
        if isinstance(data, Text):
            assert isinstance(recipe, TextRecipe)
            return language.train(model, data, recipe, seed=seed, report=report)
        return sgd.train(model, data, recipe, seed=seed, report=report)

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
def _loaded(name: str, folder: str | Path | None, context: int | None) -> Dataset | Text:
    # In the process, not in the evaluator: that is pickled to workers, and is to stay small.
    if name in TEXTS:
        return load_text(name, folder, CONTEXT if context is None else context)
    return load_dataset(name, folder)
