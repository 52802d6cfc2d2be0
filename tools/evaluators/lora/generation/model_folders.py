"""Checks of a model's directory before a search: a diffusers pipeline, or a CLIP model.

Only safetensors are accepted: other formats are pickles, which can run code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lm_searcher.spaces.errors import EvaluatorError

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
PICKLED = (".bin", ".ckpt", ".pt", ".pth")
ACCEPTED = "accepted: StableDiffusionPipeline, of unet, vae, text_encoder, tokenizer and scheduler"


def check_pipeline(folder: Path) -> None:
    """Raises EvaluatorError unless all parts of the pipeline are there and match."""
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
    """Raises EvaluatorError unless the weights are complete safetensors."""
    from safetensors import SafetensorError, safe_open

    wanted = folder / f"{stem}.safetensors"
    if wanted.is_file():
        try:
            with safe_open(wanted, framework="numpy"):  # compares the header with the length
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
    """The JSON object in a file. Raises EvaluatorError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluatorError(f"'{path}' cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise EvaluatorError(f"'{path}' is no JSON object")
    return found


def check_clip(folder: Path) -> None:
    """Raises EvaluatorError unless the directory holds a CLIPModel of transformers."""
    place = f"clip '{folder}'"
    if not folder.is_dir():
        raise EvaluatorError(f"{place}: no such directory")
    if read_json(folder / "config.json").get("model_type") != "clip":
        raise EvaluatorError(f"{place} is no CLIP model; accepted: a directory of CLIPModel")
    check_weights(folder, "model")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise EvaluatorError(f"{place} has no tokenizer.json")
