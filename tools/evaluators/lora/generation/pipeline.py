"""A Stable Diffusion pipeline of diffusers on the disk: its parts, checked, and loaded.

Safetensors only; no code of a model's own is run.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.errors import EvaluatorError, first_line

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from torch import Tensor

INDEX = "model_index.json"
CONFIGS = {
    "unet": "config.json",
    "vae": "config.json",
    "text_encoder": "config.json",
    "tokenizer": "tokenizer_config.json",
    "scheduler": "scheduler_config.json",
}
WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
_TEXTS = 64
"""Encoded at a time."""
PICKLED = (".bin", ".ckpt", ".pt", ".pth")
ACCEPTED = "accepted: StableDiffusionPipeline, of unet, vae, text_encoder, tokenizer and scheduler"


@dataclass(frozen=True)
class Pipeline:
    """A pipeline's directory, whose parts are there and fit together."""

    folder: Path

    @classmethod
    def find(cls, base: str) -> Pipeline:
        """That of a directory, or of a hub id, fetched where it must be. Raises EvaluatorError."""
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
        """Pixels a side of a latent."""
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
        """In float32, on the CPU; it is only ever evaluated."""
        import torch
        from diffusers import AutoencoderKL

        vae = AutoencoderKL.from_pretrained(
            self.folder / "vae", torch_dtype=torch.float32, **_LOCAL
        )
        vae.requires_grad_(False).eval()
        return vae

    def scheduler(self) -> DDIMScheduler:
        """The noise that the pipeline has learned, whatever it samples with."""
        from diffusers import DDIMScheduler

        # Of another scheduler's settings those of the noise; samples are latents, never clipped.
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
    """From captions to what the UNet is told of them."""

    tokenizer: Any
    model: Any

    def __call__(self, captions: Sequence[str]) -> Tensor:
        """Shape [n, tokens, width]."""
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


def check_pipeline(folder: Path) -> None:
    """Raises EvaluatorError unless all parts of the pipeline are there and fit together."""
    place = f"pipeline '{folder}'"
    if not folder.is_dir():
        raise EvaluatorError(f"{place}: no such directory")
    if not (folder / INDEX).is_file():
        raise EvaluatorError(f"{place} has no {INDEX}; accepted: a diffusers pipeline's directory")
    index = read_json(folder / INDEX)
    if not set(CONFIGS) <= set(index) or "text_encoder_2" in index:
        raise EvaluatorError(f"{place} is a {index.get('_class_name')}; {ACCEPTED}")
    for part, name in CONFIGS.items():
        if not (folder / part / name).is_file():
            raise EvaluatorError(f"{place} lacks {part}/{name}; {ACCEPTED}")
    for part, stem in WEIGHTS.items():
        check_weights(folder / part, stem)
    unet, vae, texts = (read_json(folder / p / CONFIGS[p]) for p in ("unet", "vae", "text_encoder"))
    for what, wanted, given in (
        ("texts of width", unet.get("cross_attention_dim"), texts.get("hidden_size")),
        ("images of channels", unet.get("in_channels"), vae.get("latent_channels")),
    ):
        if wanted != given:
            raise EvaluatorError(f"{place}: the unet wants {what} {wanted}, and gets {given}")


def check_weights(folder: Path, stem: str) -> None:
    """Raises EvaluatorError unless the weights are there, whole, and safetensors."""
    from safetensors import SafetensorError, safe_open

    wanted = folder / f"{stem}.safetensors"
    if wanted.is_file():
        try:
            with safe_open(wanted, framework="numpy"):  # its header tells how long it must be
                return
        except (SafetensorError, OSError) as error:
            raise EvaluatorError(f"weights '{wanted}' cannot be read: {error}") from None
    if (folder / f"{wanted.name}.index.json").is_file():
        return
    found = f"'{folder}' has no weights"
    if pickled := sorted(p.name for p in folder.iterdir() if p.suffix in PICKLED):
        found = f"weights of '{folder}' are no safetensors but {pickled[0]}"
    raise EvaluatorError(f"{found}; accepted: {wanted.name}")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file. Raises EvaluatorError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluatorError(f"'{path}' cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise EvaluatorError(f"'{path}' is no JSON object")
    return found


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
        check_pipeline(cached)  # a part of it may have been fetched for the space
        return cached
    except (OSError, ValueError, EvaluatorError):
        pass
    try:
        return Path(fetch(base, allow_patterns=wanted))
    except (OSError, ValueError, httpx2.HTTPError) as error:
        raise EvaluatorError(
            f"pipeline '{base}': no such directory, and not from the hub ({first_line(error)})"
        ) from None
