"""A diffusion model of eight digits adapted to the other two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

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
# Short on purpose: trained to the end, adapters of every rank come to the same.
ADAPTATION = Fit(epochs=3, batch_size=64, learning_rate=5e-3)
PASSES = 7
"""Over the images in an epoch, with other noise each time."""
REPEATS = 8
"""Of each held-out image in a probe."""
SAMPLES = 200
STEPS = 10

BASE_FIT = Fit(epochs=32, batch_size=64, learning_rate=3e-3)
JUDGE_FIT = Fit(epochs=40, batch_size=50, learning_rate=2e-3)
JUDGE_NOISE = 0.2
"""Spread of what is added in training: generated images are never quite clean."""


@dataclass(frozen=True)
class DigitsTask:
    """Beside the adapters the tokens of the two new digits are always trained: the base has never
    seen them, and without them no adapter could tell one from the other. They cost every code
    the same and are no part of lora_params_m. Where all ranks are 0, they alone are trained.

    val_denoising_loss   mean squared error of the predicted velocity on held-out images of the
                         new digits, with fixed noise and timesteps; test_denoising_loss likewise
    sample_accuracy      of samples of the new digits, the share that a classifier of real digits
                         takes for what they should be
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
        judge = {"fit": asdict(JUDGE_FIT), "noise": JUDGE_NOISE}
        recipe = {"seed": 0, "diffuser": asdict(BASE_FIT), "judge": judge}
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
        model = diffuser()
        model.load_state_dict(_part(self.embedded_base.load(self.settings.cache), "diffuser"))
        if self.settings.gradient_checkpointing:
            cast(Any, model).unet.enable_gradient_checkpointing()
        return model

    def _judge(self) -> nn.Module:
        from lm_searcher.tools.evaluators.lora.generation.digit_classifier import judge

        model = judge()
        model.load_state_dict(_part(self.embedded_base.load(self.settings.cache), "judge"))
        return model

    def fit(self, model: nn.Module, *, seed: int, report: Report) -> Metrics:
        """See Task; the new digits' tokens are trained whatever the adapters."""
        import torch

        from lm_searcher.tools.evaluators.lora import loop
        from lm_searcher.tools.evaluators.lora.generation import digit_diffusion
        from lm_searcher.tools.evaluators.lora.generation.denoising import random_loss
        from lm_searcher.tools.evaluators.lora.generation.digit_classifier import accuracy

        judge = self._judge()
        device = loop.device()
        model.to(device)
        cast(Any, model).new.requires_grad_(True)
        schedule, splits = digit_diffusion.scheduler(), digit_diffusion.splits(new=True)
        images, digits = (part.to(device) for part in splits["train"])
        generator = torch.Generator(device).manual_seed(seed + 1)  # the order of images has seed

        def loss(rows: Tensor) -> Tensor:
            rows = rows % len(images)
            return random_loss(model, schedule, images[rows], digits[rows], generator)

        def held_out(name: str) -> float:
            return digit_diffusion.loss(model, schedule, splits[name], REPEATS)

        def sample_accuracy() -> float:
            made, wanted = digit_diffusion.samples(model, schedule, SAMPLES, STEPS, new=True)
            return accuracy(judge, made, wanted)

        measures: dict[str, Callable[[], float]] = {
            "val_denoising_loss": lambda: held_out("valid"),
            "sample_accuracy": sample_accuracy,
        }
        fitted = loop.train(
            model,
            self.fitting,
            examples=PASSES * len(images),
            loss=loss,
            score=measures[self.metric],
            seed=seed,
            report=report,
        )
        others = {name: take() for name, take in measures.items() if name != self.metric}
        return {
            self.metric: fitted.value,
            **others,
            "test_denoising_loss": held_out("test"),
            "train_loss": fitted.train_loss,
            "epochs": float(fitted.epochs),
        }


def _part(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{name}."): t for k, t in state.items() if k.startswith(f"{name}.")}
