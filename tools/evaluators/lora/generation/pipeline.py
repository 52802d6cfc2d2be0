"""A Stable Diffusion pipeline of diffusers on the disk, and its parts.

Only safetensors are loaded, and no code that comes with a model is run.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.errors import EvaluatorError, first_line
from lm_searcher.tools.evaluators.lora.generation.model_folders import (
    CONFIGS,
    INDEX,
    WEIGHTS,
    check_pipeline,
    read_json,
)

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from torch import Tensor

_TEXTS = 64
"""Captions that are encoded at a time."""


@dataclass(frozen=True)
class Pipeline:
    """A pipeline's directory, checked by `check_pipeline`."""

    folder: Path

    @classmethod
    def find(cls, base: str) -> Pipeline:
        """The pipeline of a directory or a hub id; it may be downloaded. Raises EvaluatorError."""
        folder = Path(base)
        if not folder.is_dir():
            folder = _from_hub(base)
        check_pipeline(folder)
        return cls(folder)

    def config(self, part: str) -> dict[str, Any]:
        """The settings of a part. Raises EvaluatorError."""
        return read_json(self.folder / part / CONFIGS[part])

    @property
    def reduction(self) -> int:
        """Pixels of the image along each side of one latent pixel."""
        return int(2 ** (len(self.config("vae")["block_out_channels"]) - 1))

    @property
    def image_size(self) -> int:
        """Height and width, in pixels, that the UNet was made for."""
        return int(self.config("unet")["sample_size"]) * self.reduction

    def unet(self) -> UNet2DConditionModel:
        """In float32, on the CPU."""
        import torch
        from diffusers import UNet2DConditionModel

        return UNet2DConditionModel.from_pretrained(
            self.folder / "unet", torch_dtype=torch.float32, **_LOCAL
        )

    def vae(self) -> AutoencoderKL:
        """In float32, on the CPU, frozen and in evaluation mode."""
        import torch
        from diffusers import AutoencoderKL

        vae = AutoencoderKL.from_pretrained(
            self.folder / "vae", torch_dtype=torch.float32, **_LOCAL
        )
        vae.requires_grad_(False).eval()
        return vae

    def scheduler(self) -> DDIMScheduler:
        """DDIM with the noise schedule that the pipeline was trained with."""
        from diffusers import DDIMScheduler

        # The file may be of another scheduler: take the settings that DDIM has too. Latents are
        # not bounded as images are, so samples are not clipped.
        accepted = set(inspect.signature(DDIMScheduler.__init__).parameters) - {"self"}
        settings = {k: v for k, v in self.config("scheduler").items() if k in accepted}
        return DDIMScheduler(**settings | {"clip_sample": False})

    def texts(self, device: torch.device) -> TextEncoder:
        """The text encoder, on the device."""
        import torch
        from transformers import CLIPTextModel, CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(self.folder / "tokenizer", local_files_only=True)
        encoder: Any = CLIPTextModel.from_pretrained(
            self.folder / "text_encoder", dtype=torch.float32, **_LOCAL
        )
        return TextEncoder(tokenizer, encoder.to(device).eval())


@dataclass(frozen=True)
class TextEncoder:
    """From captions to the states that the UNet attends to."""

    tokenizer: Any
    model: Any

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """The last hidden states, [n, tokens, width]."""
        import torch

        tokens = self.tokenizer(
            list(captions),
            padding="max_length",
            truncation=True,
            max_length=self.model.config.max_position_embeddings,
            return_tensors="pt",
        )["input_ids"].to(self.model.device)
        parts = range(0, len(tokens), _TEXTS)
        with torch.no_grad():
            return torch.cat([self.model(tokens[i : i + _TEXTS])[0] for i in parts])


_LOCAL: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}


def _from_hub(base: str) -> Path:
    import httpx2
    import huggingface_hub

    if Path(base).is_absolute() or base.startswith((".", "~")) or base.count("/") != 1:
        raise EvaluatorError(f"pipeline '{base}': no such directory")
    wanted = [INDEX, *(f"{part}/*.{kind}" for part in CONFIGS for kind in ("json", "txt"))]
    wanted += [f"{part}/{stem}.safetensors" for part, stem in WEIGHTS.items()]
    wanted += [f"{part}/{stem}-*.safetensors" for part, stem in WEIGHTS.items()]
    fetch = huggingface_hub.snapshot_download
    try:
        cached = Path(fetch(base, allow_patterns=wanted, local_files_only=True))
        check_pipeline(cached)  # the space may have downloaded a part of it
        return cached
    except (OSError, ValueError, EvaluatorError):
        pass
    try:
        return Path(fetch(base, allow_patterns=wanted))
    except (OSError, ValueError, httpx2.HTTPError) as error:
        raise EvaluatorError(
            f"pipeline '{base}': no such directory, and not from the hub ({first_line(error)})"
        ) from None
