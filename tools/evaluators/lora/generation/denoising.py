"""Diffusion: the loss of a denoiser, a probe of it that is the same for all, and samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler
from torch import Tensor
from torch.nn import functional

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""What is predicted for noisy images [n, c, h, w] at timesteps [n] under conditions [n, ...]."""


def denoising_loss(
    denoiser: Denoiser,
    scheduler: DDIMScheduler,
    images: Tensor,
    conditions: Tensor,
    timesteps: Tensor,
    noise: Tensor,
) -> Tensor:
    """The mean squared error of what the scheduler's `prediction_type` says is predicted."""
    noisy = scheduler.add_noise(images, noise, timesteps)
    predicted = denoiser(noisy, timesteps, conditions).float()
    kind = scheduler.config["prediction_type"]
    if kind == "epsilon":
        wanted = noise
    elif kind == "v_prediction":
        wanted = scheduler.get_velocity(images, noise, timesteps)
    else:
        wanted = images
    return functional.mse_loss(predicted, wanted)


def random_loss(
    denoiser: Denoiser,
    scheduler: DDIMScheduler,
    images: Tensor,
    conditions: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """The loss at timesteps and with noise of the generator's, as a training step has it."""
    device, levels = images.device, scheduler.config["num_train_timesteps"]
    timesteps = torch.randint(levels, (len(images),), generator=generator, device=device)
    noise = torch.randn(images.shape, generator=generator, device=device)
    return denoising_loss(denoiser, scheduler, images, conditions, timesteps, noise)


@dataclass(frozen=True)
class Probe:
    """Held-out images with noise and timesteps that never change.

    Two denoisers are told apart by what they predict, not by what they were asked. There are
    `repeats` times as many questions as images; question i is of image i modulo their number.
    """

    images: Tensor
    conditions: Tensor
    timesteps: Tensor
    noise: Tensor

    @classmethod
    def of(
        cls, images: Tensor, conditions: Tensor, scheduler: DDIMScheduler, repeats: int
    ) -> Probe:
        """The timesteps of all questions are spread evenly."""
        generator = torch.Generator().manual_seed(0)  # the processor's, so for every device
        count = len(images) * repeats
        levels = scheduler.config["num_train_timesteps"]
        order = torch.randperm(count, generator=generator)
        timesteps = (order * levels + levels // 2) // count
        noise = torch.randn((count, *images.shape[1:]), generator=generator)
        return cls(images, conditions, timesteps.to(images.device), noise.to(images.device))

    def loss(self, denoiser: Denoiser, scheduler: DDIMScheduler, batch: int) -> float:
        """The mean over all questions, with bf16 on CUDA."""
        device, count = self.images.device, len(self.timesteps)
        total = torch.zeros((), device=device)
        on_cuda = device.type == "cuda"
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=on_cuda):
            for asked in torch.arange(count, device=device).tensor_split(math.ceil(count / batch)):
                rows = asked % len(self.images)
                images, conditions = self.images[rows], self.conditions[rows]
                timesteps, noise = self.timesteps[asked], self.noise[asked]
                loss = denoising_loss(denoiser, scheduler, images, conditions, timesteps, noise)
                total += loss * len(asked)
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
    """Images by DDIM (arXiv 2010.02502) from noise [n, c, h, w], nothing drawn on the way.

    `guidance` above 1 pushes away from what the condition `without` would give (arXiv
    2207.12598). With bf16 on CUDA.
    """
    place, images = noise.device.type, noise
    scheduler.set_timesteps(steps)
    with torch.no_grad(), torch.autocast(place, torch.bfloat16, enabled=place == "cuda"):
        for step in scheduler.timesteps:
            at = step.to(noise.device).expand(len(noise))
            predicted = denoiser(images, at, conditions).float()
            if without is not None and guidance != 1:
                free = denoiser(images, at, without).float()
                predicted = free + guidance * (predicted - free)
            images = scheduler.step(predicted, int(step), images, return_dict=False)[0]
    return images
