"""A diffusion model of eight digits adapted to the other two."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, cast

from lm_searcher.spaces.errors import ConfigError, unknown
from lm_searcher.spaces.lora_bases import diffuser
from lm_searcher.tools.datasets import Dataset, load_dataset
from lm_searcher.tools.evaluators.lora.base import BaseModel
from lm_searcher.tools.evaluators.lora.fit import Fit
from lm_searcher.tools.evaluators.lora.task import TaskSettings
from lm_searcher.tools.protocols import Metrics, Report

if TYPE_CHECKING:
    import torch
    from diffusers import DDIMScheduler
    from torch import Tensor, nn

    from lm_searcher.tools.evaluators.lora.denoising import Probe

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
        given = {n: getattr(self.settings, n) for n in ("epochs", "batch_size", "learning_rate")}
        return replace(ADAPTATION, **{k: v for k, v in given.items() if v is not None})

    @cached_property
    def embedded_base(self) -> BaseModel:
        """The base, trained on the first eight digits, with the classifier of all ten."""
        judge = {"fit": asdict(JUDGE_FIT), "noise": JUDGE_NOISE}
        recipe = {"seed": 0, "diffuser": asdict(BASE_FIT), "judge": judge}
        return BaseModel("diffuser", f"{__name__}:train_base", recipe)

    def identity(self) -> dict[str, Any]:
        """See Task."""
        sizes = {"passes": PASSES, "repeats": REPEATS, "samples": SAMPLES, "steps": STEPS}
        digest = {"base_digest": self.embedded_base.digest}
        return {"task": "generation", **asdict(self.fitting), **sizes, **digest}

    def prepare(self) -> None:
        """See Task. Raises EvaluatorError, or SpaceError without diffusers."""
        import lm_searcher.spaces.lora_diffuser
        import lm_searcher.tools.evaluators.lora.denoising
        import lm_searcher.tools.evaluators.lora.digit_judge  # noqa: F401  so that forked trials find it loaded

        self.embedded_base.make(self.settings.cache)
        _digits()

    def base(self) -> nn.Module:
        """See Task."""
        model = diffuser()
        model.load_state_dict(_part(self.embedded_base.load(self.settings.cache), "diffuser"))
        if self.settings.gradient_checkpointing:
            cast(Any, model).unet.enable_gradient_checkpointing()
        return model

    def fit(self, model: nn.Module, *, seed: int, report: Report) -> Metrics:
        """See Task; the new digits' tokens are trained whatever the adapters."""
        import torch

        from lm_searcher.tools.evaluators.lora import loop
        from lm_searcher.tools.evaluators.lora.denoising import random_loss

        device = loop.device()
        model.to(device)
        cast(Any, model).new.requires_grad_(True)
        schedule = scheduler()
        images, digits = (part.to(device) for part in tensors(_digits().train, new=True))
        generator = torch.Generator(device).manual_seed(seed + 1)  # the order of images has seed

        def loss(rows: Tensor) -> Tensor:
            rows = rows % len(images)
            return random_loss(model, schedule, images[rows], digits[rows], generator)

        measures = {
            "val_denoising_loss": lambda: self._held_out(model, schedule, "valid"),
            "sample_accuracy": lambda: self._sample_accuracy(model, schedule),
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
            "test_denoising_loss": self._held_out(model, schedule, "test"),
            "train_loss": fitted.train_loss,
            "epochs": float(fitted.epochs),
        }

    def _held_out(self, model: nn.Module, schedule: DDIMScheduler, split: str) -> float:
        device = next(model.parameters()).device
        held_out = probe(tensors(getattr(_digits(), split), new=True), schedule, device)
        return held_out.loss(model, schedule, batch=1000)

    def _sample_accuracy(self, model: nn.Module, schedule: DDIMScheduler) -> float:
        from lm_searcher.tools.evaluators.lora import digit_judge

        judge = digit_judge.judge()
        judge.load_state_dict(_part(self.embedded_base.load(self.settings.cache), "judge"))
        return digit_judge.accuracy(judge, *samples(model, schedule, new=True))


def scheduler() -> DDIMScheduler:
    """The noise that the base has learned."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")


def tensors(split: tuple[Any, Any], *, new: bool) -> tuple[Tensor, Tensor]:
    """Images in -1 to 1 and labels of the digits that are new to the base, or of the others."""
    import torch

    from lm_searcher.spaces.lora_diffuser import KNOWN

    images, labels = split
    rows = (labels >= KNOWN) == new
    return torch.tensor(images[rows]).float() / 8 - 1, torch.tensor(labels[rows])


def probe(data: tuple[Tensor, Tensor], schedule: DDIMScheduler, device: torch.device) -> Probe:
    """Held-out images with their fixed noise."""
    from lm_searcher.tools.evaluators.lora.denoising import Probe

    images, labels = (part.to(device) for part in data)
    return Probe.of(images, labels, schedule, REPEATS)


def samples(model: nn.Module, schedule: DDIMScheduler, *, new: bool) -> tuple[Tensor, Tensor]:
    """Generated images and what they should be, on the CPU, always from the same noise."""
    import torch

    from lm_searcher.spaces.lora_diffuser import DIGITS, KNOWN, SIZE
    from lm_searcher.tools.evaluators.lora.denoising import sample

    device = next(model.parameters()).device
    first, count = (KNOWN, DIGITS - KNOWN) if new else (0, KNOWN)
    wanted = first + torch.arange(SAMPLES) % count
    noise = torch.randn(SAMPLES, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    images = sample(model, schedule, noise.to(device), wanted.to(device), steps=STEPS)
    return images.clamp(-1, 1).cpu(), wanted


def train_base(seed: int, diffuser: dict[str, Any], judge: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of the diffusion model, and those of the classifier that judges its samples."""
    import torch

    from lm_searcher.spaces.lora_diffuser import Diffuser
    from lm_searcher.tools.evaluators.lora import loop
    from lm_searcher.tools.evaluators.lora.denoising import random_loss
    from lm_searcher.tools.evaluators.lora.digit_judge import train_judge

    torch.manual_seed(seed)
    model, schedule = Diffuser(), scheduler()
    images, digits = tensors(_digits().train, new=False)
    generator = torch.Generator().manual_seed(seed + 1)
    loop.train(
        model,
        Fit(**diffuser),
        examples=len(images),
        loss=lambda rows: random_loss(model, schedule, images[rows], digits[rows], generator),
        score=lambda: 0.0,
        seed=seed,
        report=lambda step, value: False,
    )
    model.begin_new()
    others = tensors(_digits().train, new=True)
    every = (torch.cat([images, others[0]]), torch.cat([digits, others[1]]))
    fit, noise = Fit(**judge["fit"]), judge["noise"]
    known = train_judge(*every, fit, noise=noise, seed=seed)
    parts = {"diffuser": model, "judge": known}
    return {f"{name}.{k}": t for name, m in parts.items() for k, t in m.state_dict().items()}


def _part(state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{name}."): t for k, t in state.items() if k.startswith(f"{name}.")}


@cache
def _digits() -> Dataset:
    # In the process, not in the task: that is pickled to workers, and is to stay small.
    return load_dataset("digits")
