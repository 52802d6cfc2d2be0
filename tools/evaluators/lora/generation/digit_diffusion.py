"""Diffusion on scikit-learn's digits: the data, the noise schedule, samples, and the base."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from lm_searcher.spaces.lora.diffuser import DIGITS, KNOWN, SIZE, Diffuser
from lm_searcher.tools.data.datasets import load_dataset
from lm_searcher.tools.data.image_dataset import Dataset
from lm_searcher.tools.evaluators.lora.fit import Fit
from lm_searcher.tools.evaluators.lora.generation.denoising import Probe, random_loss, sample
from lm_searcher.tools.evaluators.lora.generation.digit_classifier import train_classifier
from lm_searcher.tools.evaluators.lora.loop import train_base_model

Labelled = tuple[Tensor, Tensor]
"""Images [n, 1, 8, 8] from -1 to 1, and the digits that they show, int64 [n]."""


@cache
def digits() -> Dataset:
    """The data set, read once a process."""
    return load_dataset("digits")


def splits(*, new: bool) -> dict[str, Labelled]:
    """`train`, `valid` and `test`: the digits that are `new` to the base, or those it knows."""
    chosen = {}
    for name in ("train", "valid", "test"):
        images, labels = getattr(digits(), name)
        rows = (labels >= KNOWN) == new
        scaled = torch.tensor(images[rows]).float() / 8 - 1  # 0 to 16 -> -1 to 1
        chosen[name] = (scaled, torch.tensor(labels[rows]))
    return chosen


def scheduler() -> DDIMScheduler:
    """The noise schedule of the base, which predicts the velocity (arXiv 2202.00512)."""
    return DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")


def probe_loss(
    model: nn.Module, schedule: DDIMScheduler, held_out: Labelled, repeats: int
) -> float:
    """The denoising loss on held-out digits, by a `Probe` with `repeats` noises an image."""
    device = next(model.parameters()).device
    images, labels = (part.to(device) for part in held_out)
    return Probe.of(images, labels, schedule, repeats).loss(model, schedule, batch=1000)


def samples(
    model: nn.Module, schedule: DDIMScheduler, count: int, steps: int, *, new: bool
) -> Labelled:
    """Generated images and the digits asked for, on the CPU; the same noise in every call."""
    device = next(model.parameters()).device
    first, classes = (KNOWN, DIGITS - KNOWN) if new else (0, KNOWN)
    wanted = first + torch.arange(count) % classes
    noise = torch.randn(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    images = sample(model, schedule, noise.to(device), wanted.to(device), steps=steps)
    return images.clamp(-1, 1).cpu(), wanted


def train_base(seed: int, diffuser: dict[str, Any], judge: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of the diffusion model and of the classifier that scores its samples.

    The diffusion model learns the known digits only, the classifier all ten. The base's recipe and
    its file have the name `judge` for the classifier; another name would be another base.
    """
    known, new = splits(new=False)["train"], splits(new=True)["train"]
    every = (torch.cat([known[0], new[0]]), torch.cat([known[1], new[1]]))
    fit, noise = Fit(**judge["fit"]), judge["noise"]
    classifier = train_classifier(*every, fit, noise=noise, seed=seed)
    parts = {"diffuser": _train_diffuser(*known, Fit(**diffuser), seed), "judge": classifier}
    return {f"{name}.{k}": t for name, m in parts.items() for k, t in m.state_dict().items()}


def _train_diffuser(images: Tensor, labels: Tensor, fit: Fit, seed: int) -> Diffuser:
    torch.manual_seed(seed)
    model, schedule = Diffuser(), scheduler()
    generator = torch.Generator().manual_seed(seed + 1)  # `seed` itself orders the images
    train_base_model(
        model,
        fit,
        examples=len(images),
        loss=lambda rows: random_loss(model, schedule, images[rows], labels[rows], generator),
        seed=seed,
    )
    model.begin_new()
    return model
