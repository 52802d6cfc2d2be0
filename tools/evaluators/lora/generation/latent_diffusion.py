"""The UNet that is adapted, with the frozen parts of its pipeline that encode and decode."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lm_searcher.tools.evaluators.lora.generation.captions import Captioned
from lm_searcher.tools.evaluators.lora.generation.clip_scores import ClipEmbedding, clip_i, clip_t
from lm_searcher.tools.evaluators.lora.generation.denoising import Probe, random_loss, sample
from lm_searcher.tools.evaluators.lora.generation.pipeline import Pipeline, TextEncoder
from lm_searcher.tools.evaluators.lora.generation.sampling import Sampling

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler

_BATCH = 8
"""Images at a time, except in training."""


@dataclass(frozen=True)
class Encoded:
    """Images and captions as the UNet gets them."""

    source: Captioned
    latents: Tensor
    """[n, channels, height, width]: the mode of the autoencoder's distribution, scaled."""
    texts: Tensor
    """[n, tokens, width]"""


@dataclass(frozen=True)
class LatentDiffusion:
    """A UNet on its device, with the frozen parts that training and scores need."""

    unet: nn.Module
    vae: AutoencoderKL
    scheduler: DDIMScheduler
    empty: Tensor
    """The encoding of an empty caption, [1, tokens, width], for guidance."""
    device: torch.device

    @classmethod
    def of(
        cls, unet: nn.Module, pipeline: Pipeline, texts: TextEncoder, device: torch.device
    ) -> LatentDiffusion:
        """Load the other parts of the pipeline."""
        return cls(unet, pipeline.vae().to(device), pipeline.scheduler(), texts([""]), device)

    def encode(self, data: Captioned, texts: TextEncoder) -> Encoded:
        """Encode images by the autoencoder and captions by the text encoder."""
        parts = []
        for start in range(0, len(data), _BATCH):
            images = torch.tensor(data.images[start : start + _BATCH], device=self.device)
            with torch.no_grad():
                parts.append(self.vae.encode(images / 127.5 - 1).latent_dist.mode())
        factor = self.vae.config["scaling_factor"]
        return Encoded(data, factor * torch.cat(parts), texts(data.captions))

    def denoise(self, noisy: Tensor, timesteps: Tensor, texts: Tensor) -> Tensor:
        """The UNet's prediction; see Denoiser."""
        predicted: Tensor = self.unet(noisy, timesteps, texts).sample
        return predicted

    def training_loss(self, data: Encoded, rows: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of images with these row numbers, modulo their count; see `random_loss`."""
        rows = rows % len(data.latents)
        latents, texts = data.latents[rows], data.texts[rows]
        return random_loss(self.denoise, self.scheduler, latents, texts, generator)

    def loss(self, data: Encoded, questions: int) -> float:
        """The denoising loss by a `Probe` of at least `questions` questions."""
        repeats = math.ceil(questions / len(data.latents))
        probe = Probe.of(data.latents, data.texts, self.scheduler, repeats)
        return probe.loss(self.denoise, self.scheduler, _BATCH)

    def samples(self, data: Encoded, sampling: Sampling) -> Tensor:
        """Images for the captions in turn, [n, 3, h, w] from 0 to 1, always from the same noise."""
        rows = torch.arange(sampling.images) % len(data.latents)
        shape = (len(rows), *data.latents.shape[1:])
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(self.device)
        images = []
        for start in range(0, len(rows), _BATCH):
            texts = data.texts[rows[start : start + _BATCH]]
            latents = sample(
                self.denoise,
                self.scheduler,
                noise[start : start + _BATCH],
                texts,
                steps=sampling.steps,
                without=self.empty.expand(len(texts), -1, -1),
                guidance=sampling.guidance,
            )
            with torch.no_grad():
                decoded = self.vae.decode(latents / self.vae.config["scaling_factor"])
            images.append((decoded.sample / 2 + 0.5).clamp(0, 1))
        return torch.cat(images)

    def clip_scores(
        self, data: Encoded, sampling: Sampling, embedding: ClipEmbedding
    ) -> dict[str, float]:
        """clip_t and clip_i of samples for the captions of `data`, compared with its images."""
        generated = embedding.images(self.samples(data, sampling))
        captions = data.source.captions
        wanted = embedding.texts([captions[i % len(captions)] for i in range(len(generated))])
        real = embedding.images(torch.tensor(data.source.images) / 255)
        return {"clip_t": clip_t(generated, wanted), "clip_i": clip_i(generated, real)}
