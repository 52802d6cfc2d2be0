"""A Stable Diffusion UNet adapted to a folder of images with captions."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.errors import ConfigError, EvaluatorError, unknown
from lm_searcher.tools.evaluators.lora.fit import Fit
from lm_searcher.tools.evaluators.lora.generation.captions import CaptionedSplits, load_captioned
from lm_searcher.tools.evaluators.lora.generation.model_folders import check_clip
from lm_searcher.tools.evaluators.lora.generation.pipeline import Pipeline
from lm_searcher.tools.evaluators.lora.generation.sampling import Sampling
from lm_searcher.tools.evaluators.lora.task import TaskSettings
from lm_searcher.tools.protocols import Metrics, Report
from lm_searcher.tools.transformers_output import hide_progress_bars

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import nn

    from lm_searcher.tools.evaluators.lora.generation.latent_diffusion import Encoded

LOSS = {"val_denoising_loss": "min"}
CLIP = {"clip_t": "max", "clip_i": "max"}
ADAPTATION = Fit(epochs=5, batch_size=4, learning_rate=1e-4)
SHOWN = 200
"""Images in an epoch, about: a smaller folder is repeated."""
QUESTIONS = 128
"""The fewest questions of a probe: pairs of a held-out image and a timestep."""


@dataclass(frozen=True)
class PipelineTask:
    """Trains the UNet's adapters only; the text encoder and the autoencoder are frozen.

    val_denoising_loss   mean squared error of the UNet's prediction on held-out images, with
                         fixed noise and timesteps; test_denoising_loss likewise
    clip_t, clip_i       if `clip` is set: the similarity of images, generated from the validation
                         captions, to these captions and to the real images; test_clip_t and
                         test_clip_i likewise for the test split
    """

    settings: TaskSettings
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        accepted = self._metrics
        if self.metric not in accepted:
            hint = "" if self.settings.clip else "; clip_t and clip_i need clip"
            raise ConfigError(unknown("metric of task 'generation'", self.metric, accepted) + hint)
        if self.settings.folder is None:
            raise ConfigError(
                f"folder is missing; '{self.settings.base}' is adapted to a folder of images with "
                "captions"
            )
        _ = self.fitting

    @property
    def _metrics(self) -> dict[str, str]:
        return LOSS | (CLIP if self.settings.clip else {})

    @property
    def metric(self) -> str:
        """See Task."""
        return self.settings.metric or "val_denoising_loss"

    @property
    def direction(self) -> str:
        """See Task."""
        return self._metrics[self.metric]

    @property
    def fitting(self) -> Fit:
        """How an adapter is trained. Raises ConfigError."""
        return self.settings.fit(ADAPTATION)

    @property
    def own_base(self) -> None:
        """See Task."""
        return None

    def identity(self) -> dict[str, Any]:
        """See Task."""
        sizes = {"image_size": self.settings.image_size, "shown": SHOWN, "questions": QUESTIONS}
        sampling = asdict(self.sampling) if self.settings.clip else None
        return {"task": "generation", **asdict(self.fitting), **sizes, "sampling": sampling}

    def prepare(self) -> None:
        """See Task. Raises EvaluatorError or DatasetError."""
        try:
            import diffusers  # noqa: F401
        except ImportError:
            raise EvaluatorError(
                "a diffusers pipeline needs: pip install 'lm-searcher[diffusion]'"
            ) from None
        # Trials are forked from this process, so what `fit` needs is imported once, here.
        importlib.import_module("lm_searcher.tools.evaluators.lora.loop")
        importlib.import_module("lm_searcher.tools.evaluators.lora.generation.latent_diffusion")
        hide_progress_bars()
        if self.settings.clip is not None:
            check_clip(self.settings.clip)
        self._data()

    def _data(self) -> CaptionedSplits:
        pipeline = _found(self.settings.base)
        size = self.settings.image_size or pipeline.image_size
        if size % pipeline.reduction:
            raise ConfigError(
                f"image_size = {size}; accepted: multiples of {pipeline.reduction}, the pixels "
                "of a latent"
            )
        assert self.settings.folder is not None  # checked in __post_init__
        return _loaded(self.settings.folder, size)

    def base(self) -> nn.Module:
        """See Task."""
        unet = _found(self.settings.base).unet()
        if self.settings.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        base: nn.Module = unet
        return base

    def fit(self, model: nn.Module, *, seed: int, report: Report) -> Metrics:
        """See Task."""
        import torch

        from lm_searcher.tools.devices import trial_device
        from lm_searcher.tools.evaluators.lora import loop
        from lm_searcher.tools.evaluators.lora.generation.clip_scores import ClipEmbedding
        from lm_searcher.tools.evaluators.lora.generation.latent_diffusion import LatentDiffusion

        device, pipeline, data = trial_device(), _found(self.settings.base), self._data()
        texts = pipeline.texts(device)
        diffusion = LatentDiffusion.of(model.to(device), pipeline, texts, device)
        learn, valid, test = (
            diffusion.encode(split, texts) for split in (data.train, data.valid, data.test)
        )
        del texts  # half a gigabyte, and no longer needed
        folder = self.settings.clip
        clip = None if folder is None else ClipEmbedding.load(folder, device)
        generator = torch.Generator(device).manual_seed(seed + 1)  # `seed` orders the images

        def scores(split: Encoded, names: Collection[str]) -> dict[str, float]:
            """Those of the metrics, by their names for validation."""
            found = {}
            if "val_denoising_loss" in names:
                found["val_denoising_loss"] = diffusion.loss(split, QUESTIONS)
            if clip is not None and not CLIP.keys().isdisjoint(names):
                found |= diffusion.clip_scores(split, self.sampling, clip)
            return found

        fitted = loop.train(
            model,
            self.fitting,
            examples=max(1, round(SHOWN / len(data.train))) * len(data.train),
            loss=lambda rows: diffusion.training_loss(learn, rows, generator),
            score=lambda: scores(valid, {self.metric})[self.metric],
            seed=seed,
            report=report,
        )
        held_out = scores(test, self._metrics)
        return {
            **scores(valid, self._metrics.keys() - {self.metric}),
            self.metric: fitted.value,
            **{f"test_{name.removeprefix('val_')}": value for name, value in held_out.items()},
            "train_loss": fitted.train_loss,
            "epochs": float(fitted.epochs),
        }


@cache
def _found(base: str) -> Pipeline:
    return Pipeline.find(base)


@cache
def _loaded(folder: Path, size: int) -> CaptionedSplits:
    # Cached in the process, since the task is pickled to workers and must stay small.
    return load_captioned(folder, size)
