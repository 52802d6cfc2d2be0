"""Diffusion: the loss of a denoiser, a fixed probe to compare denoisers by, and samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler
from torch import Tensor
from torch.nn import functional

from lm_searcher.tools.devices import mixed_precision

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Noisy images [n, c, h, w], timesteps [n], conditions [n, ...] -> the prediction [n, c, h, w]."""


def denoising_loss(
    denoiser: Denoiser,
    scheduler: DDIMScheduler,
    images: Tensor,
    conditions: Tensor,
    timesteps: Tensor,
    noise: Tensor,
) -> Tensor:
    """The mean squared error against the target of the scheduler's `prediction_type`."""
    noisy = scheduler.add_noise(images, noise, timesteps)
    predicted = denoiser(noisy, timesteps, conditions).float()
    kind = scheduler.config["prediction_type"]
    if kind == "epsilon":
        target = noise
    elif kind == "v_prediction":
        target = scheduler.get_velocity(images, noise, timesteps)
    else:
        target = images
    return functional.mse_loss(predicted, target)


def random_loss(
    denoiser: Denoiser,
    scheduler: DDIMScheduler,
    images: Tensor,
    conditions: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """The loss of a training step: random timesteps and noise from the generator."""
    device, levels = images.device, scheduler.config["num_train_timesteps"]
    timesteps = torch.randint(levels, (len(images),), generator=generator, device=device)
    noise = torch.randn(images.shape, generator=generator, device=device)
    return denoising_loss(denoiser, scheduler, images, conditions, timesteps, noise)


@dataclass(frozen=True)
class Probe:
    """Held-out images with fixed noise and timesteps, so that only the denoisers differ.

    There are `repeats` questions for each of the n images; question i is about image i modulo n.
    `timesteps` is [n * repeats], `noise` [n * repeats, c, h, w].
    """

    images: Tensor
    conditions: Tensor
    timesteps: Tensor
    noise: Tensor

    @classmethod
    def of(
        cls, images: Tensor, conditions: Tensor, scheduler: DDIMScheduler, repeats: int
    ) -> Probe:
        """A probe whose timesteps are spread evenly over the questions."""
        generator = torch.Generator().manual_seed(0)  # on the CPU: the same numbers for any device
        count = len(images) * repeats
        levels = scheduler.config["num_train_timesteps"]
        order = torch.randperm(count, generator=generator)
        timesteps = (order * levels + levels // 2) // count  # the middle of each of count parts
        noise = torch.randn((count, *images.shape[1:]), generator=generator)
        return cls(images, conditions, timesteps.to(images.device), noise.to(images.device))

    def loss(self, denoiser: Denoiser, scheduler: DDIMScheduler, batch: int) -> float:
        """The mean over all questions, in batches of at most `batch`; bfloat16 on CUDA."""
        device, count = self.images.device, len(self.timesteps)
        total = torch.zeros((), device=device)
        with torch.no_grad(), mixed_precision(device):
            every = torch.arange(count, device=device)
            for questions in every.tensor_split(math.ceil(count / batch)):
                rows = questions % len(self.images)
                images, conditions = self.images[rows], self.conditions[rows]
                timesteps, noise = self.timesteps[questions], self.noise[questions]
                loss = denoising_loss(denoiser, scheduler, images, conditions, timesteps, noise)
                total += loss * len(questions)
        return float(total) / count


def sample(
    denoiser: Denoiser,
    scheduler: DDIMScheduler,
    noise: Tensor,
    conditions: Tensor,
    *,
    steps: int,
    without: Tensor | None = None,
    guidance: float = 1.0,
) -> Tensor:
    """Images by deterministic DDIM (arXiv 2010.02502) from noise [n, c, h, w].

    `guidance` above 1 moves the prediction away from that under the condition `without`
    (classifier-free guidance, arXiv 2207.12598). In bfloat16 on CUDA.
    """
    images = noise
    scheduler.set_timesteps(steps)
    with torch.no_grad(), mixed_precision(noise.device):
        for step in scheduler.timesteps:
            timesteps = step.to(noise.device).expand(len(noise))
            predicted = denoiser(images, timesteps, conditions).float()
            if without is not None and guidance != 1:
                unguided = denoiser(images, timesteps, without).float()
                predicted = unguided + guidance * (predicted - unguided)
            images = scheduler.step(predicted, int(step), images, return_dict=False)[0]
    return images
