"""A diffusion model of eight digits adapted to the other two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.errors import ConfigError, unknown
from lm_searcher.spaces.lora.bases import diffuser
from lm_searcher.tools.evaluators.lora.base import BaseModel
from lm_searcher.tools.evaluators.lora.fit import Fit
from lm_searcher.tools.evaluators.lora.task import TaskSettings
from lm_searcher.tools.protocols import Metrics, Report

if TYPE_CHECKING:
    from torch import Tensor, nn

_HERE = "lm_searcher.tools.evaluators.lora.generation"
RECORDED_AS = "lm_searcher.tools.evaluators.lora.digit_diffusion:train_base"

METRICS = {"val_denoising_loss": "min", "sample_accuracy": "max"}
# Short on purpose: after a long training, adapters of all ranks score the same.
ADAPTATION = Fit(epochs=3, batch_size=64, learning_rate=5e-3)
PASSES = 7
"""Passes over the images in an epoch, each with other noise."""
REPEATS = 8
"""Noises for each held-out image in a probe."""
SAMPLES = 200
"""Generated for sample_accuracy."""
STEPS = 10
"""DDIM steps of a sample."""

BASE_FIT = Fit(epochs=32, batch_size=64, learning_rate=3e-3)
CLASSIFIER_FIT = Fit(epochs=40, batch_size=50, learning_rate=2e-3)
CLASSIFIER_NOISE = 0.2
"""Standard deviation of the noise in its training; generated images are never quite clean."""


@dataclass(frozen=True)
class DigitsTask:
    """Besides the adapters, the tokens of the two new digits are always trained: the base has no
    other way to distinguish them. They cost the same for every code and do not count in
    lora_params_m. If all ranks are 0, only the tokens are trained.

    val_denoising_loss   mean squared error of the predicted velocity on held-out images of the
                         new digits, with fixed noise and timesteps; test_denoising_loss likewise
    sample_accuracy      the share of generated new digits that a classifier of real digits
                         recognises
    """

    settings: TaskSettings

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigError(unknown("metric of task 'generation'", self.metric, METRICS))
        _ = self.fitting

    @property
    def metric(self) -> str:
        """See Task."""
        return self.settings.metric or "val_denoising_loss"

    @property
    def direction(self) -> str:
        """See Task."""
        return METRICS[self.metric]

    @property
    def fitting(self) -> Fit:
        """How an adapter is trained. Raises ConfigError."""
        return self.settings.fit(ADAPTATION)

    @cached_property
    def embedded_base(self) -> BaseModel:
        """The base, trained on the first eight digits, with the classifier of all ten."""
        classifier = {"fit": asdict(CLASSIFIER_FIT), "noise": CLASSIFIER_NOISE}
        recipe = {"seed": 0, "diffuser": asdict(BASE_FIT), "judge": classifier}
        return BaseModel("diffuser", f"{_HERE}.digit_diffusion:train_base", recipe, RECORDED_AS)

    @property
    def own_base(self) -> BaseModel | None:
        """See Task."""
        return self.embedded_base

    def identity(self) -> dict[str, Any]:
        """See Task."""
        sizes = {"passes": PASSES, "repeats": REPEATS, "samples": SAMPLES, "steps": STEPS}
        digest = {"base_digest": self.embedded_base.digest}
        return {"task": "generation", **asdict(self.fitting), **sizes, **digest}

    def prepare(self) -> None:
        """See Task. Raises EvaluatorError."""
        from lm_searcher.tools.evaluators.lora.generation import digit_diffusion

        self.embedded_base.make(self.settings.cache)
        digit_diffusion.digits()

    def base(self) -> nn.Module:
        """See Task."""
        model: Any = diffuser()
        model.load_state_dict(_part(self.embedded_base.load(self.settings.cache), "diffuser"))
        if self.settings.gradient_checkpointing:
            model.unet.enable_gradient_checkpointing()
        base: nn.Module = model
        return base

    def _classifier(self) -> nn.Module:
        from lm_searcher.tools.evaluators.lora.generation import digit_classifier

        model = digit_classifier.untrained_classifier()
        model.load_state_dict(_part(self.embedded_base.load(self.settings.cache), "judge"))
        return model

    def fit(self, model: nn.Module, *, seed: int, report: Report) -> Metrics:
        """See Task. The tokens of the new digits are trained with any adapters."""
        import torch

        from lm_searcher.tools.devices import trial_device
        from lm_searcher.tools.evaluators.lora import loop
        from lm_searcher.tools.evaluators.lora.generation import digit_diffusion
        from lm_searcher.tools.evaluators.lora.generation.denoising import random_loss
        from lm_searcher.tools.evaluators.lora.generation.digit_classifier import accuracy

        classifier = self._classifier()
        device = trial_device()
        diffuser: Any = model.to(device)
        diffuser.new.requires_grad_(True)
        schedule, splits = digit_diffusion.scheduler(), digit_diffusion.splits(new=True)
        images, digits = (part.to(device) for part in splits["train"])
        generator = torch.Generator(device).manual_seed(seed + 1)  # `seed` orders the images

        def loss(rows: Tensor) -> Tensor:
            rows = rows % len(images)  # an epoch has PASSES times as many rows as images
            return random_loss(model, schedule, images[rows], digits[rows], generator)

        def held_out(name: str) -> float:
            return digit_diffusion.probe_loss(model, schedule, splits[name], REPEATS)

        def sample_accuracy() -> float:
            generated, wanted = digit_diffusion.samples(model, schedule, SAMPLES, STEPS, new=True)
            return accuracy(classifier, generated, wanted)

        scores: dict[str, Callable[[], float]] = {
            "val_denoising_loss": lambda: held_out("valid"),
            "sample_accuracy": sample_accuracy,
        }
        fitted = loop.train(
            model,
            self.fitting,
            examples=PASSES * len(images),
            loss=loss,
            score=scores[self.metric],
            seed=seed,
            report=report,
        )
        others = {name: score() for name, score in scores.items() if name != self.metric}
        return {
            self.metric: fitted.value,
            **others,
            "test_denoising_loss": held_out("test"),
            "train_loss": fitted.train_loss,
            "epochs": float(fitted.epochs),
        }


def _part(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors below `name` in a base's file, which holds two models."""
    return {k.removeprefix(f"{name}."): t for k, t in state.items() if k.startswith(f"{name}.")}
