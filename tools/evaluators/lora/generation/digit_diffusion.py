"""Diffusion on scikit-learn's digits: the data, the noise, samples, and the base's training."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from lm_searcher.spaces.lora.diffuser import DIGITS, KNOWN, SIZE, Diffuser
from lm_searcher.tools.data.datasets import load_dataset
from lm_searcher.tools.data.image_dataset import Dataset
from lm_searcher.tools.evaluators.lora import loop
from lm_searcher.tools.evaluators.lora.fit import Fit
from lm_searcher.tools.evaluators.lora.generation.denoising import Probe, random_loss, sample
from lm_searcher.tools.evaluators.lora.generation.digit_classifier import train_judge

Labelled = tuple[Tensor, Tensor]
"""Images [n, 1, 8, 8] from -1 to 1, and the digits that they show."""


@cache
def digits() -> Dataset:
    """The data set, read once a process."""
    return load_dataset("digits")


def splits(*, new: bool) -> dict[str, Labelled]:
    """`train`, `valid` and `test` of the digits that are new to the base, or of those it knows."""
    chosen = {}
    for name in ("train", "valid", "test"):
        images, labels = getattr(digits(), name)
        rows = (labels >= KNOWN) == new
        chosen[name] = (torch.tensor(images[rows]).float() / 8 - 1, torch.tensor(labels[rows]))
    return chosen


def scheduler() -> DDIMScheduler:
    """The noise that the base has learned; it predicts the velocity (arXiv 2202.00512)."""
    return DDIMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")


def loss(model: nn.Module, schedule: DDIMScheduler, held_out: Labelled, repeats: int) -> float:
    """The denoising loss with noise and timesteps that never change."""
    device = next(model.parameters()).device
    images, labels = (part.to(device) for part in held_out)
    return Probe.of(images, labels, schedule, repeats).loss(model, schedule, batch=1000)


def samples(
    model: nn.Module, schedule: DDIMScheduler, count: int, steps: int, *, new: bool
) -> Labelled:
    """Generated images and what they should be, on the CPU, always from the same noise."""
    device = next(model.parameters()).device
    first, classes = (KNOWN, DIGITS - KNOWN) if new else (0, KNOWN)
    wanted = first + torch.arange(count) % classes
    noise = torch.randn(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    images = sample(model, schedule, noise.to(device), wanted.to(device), steps=steps)
    return images.clamp(-1, 1).cpu(), wanted


def train_base(seed: int, diffuser: dict[str, Any], judge: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of the diffusion model, and those of the classifier that judges its samples.

    The first learns the known digits only, the classifier all ten.
    """
    known, new = splits(new=False)["train"], splits(new=True)["train"]
    every = (torch.cat([known[0], new[0]]), torch.cat([known[1], new[1]]))
    classifier = train_judge(*every, Fit(**judge["fit"]), noise=judge["noise"], seed=seed)
    parts = {"diffuser": _train_diffuser(*known, Fit(**diffuser), seed), "judge": classifier}
    return {f"{name}.{k}": t for name, m in parts.items() for k, t in m.state_dict().items()}


def _train_diffuser(images: Tensor, labels: Tensor, fit: Fit, seed: int) -> Diffuser:
    torch.manual_seed(seed)
    model, schedule = Diffuser(), scheduler()
    generator = torch.Generator().manual_seed(seed + 1)  # the order of images has the seed
    loop.train(
        model,
        fit,
        examples=len(images),
        loss=lambda rows: random_loss(model, schedule, images[rows], labels[rows], generator),
        score=lambda: 0.0,
        seed=seed,
        report=lambda step, value: False,
    )
    model.begin_new()
    return model
