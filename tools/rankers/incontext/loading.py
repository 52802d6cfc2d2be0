"""Load the network's weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from lm_searcher.spaces.errors import ConfigError, first_line
from lm_searcher.tools.rankers.incontext.model import FORMAT, InContextConfig, InContextModel

WEIGHTS = Path(__file__).parent / "weights"
"""The weights that are shipped."""

# Errors of json, of the network's constructor and of safetensors for damaged or foreign files.
_UNREADABLE = (
    *(OSError, ValueError, TypeError, KeyError, AttributeError),
    *(ArithmeticError, RuntimeError, SafetensorError),
)


def load_model(folder: str | Path | None = None) -> InContextModel:
    """Load the network from a folder of safetensors; by default the shipped weights.

    Raises ConfigError for weights that are missing, damaged, or of another format.
    """
    folder = Path(folder or WEIGHTS)
    place = f"ranker weights '{folder}'"
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ConfigError(
                f"{place}: no {name}; accepted: a folder that train-ranker incontext wrote "
                "(safetensors; pickled weights are not read)"
            )
    try:
        config = _config_of(folder, place)
        model = InContextModel(config)
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except _UNREADABLE as error:
        raise ConfigError(f"{place}: not readable ({first_line(error)})") from None
    if not all(torch.isfinite(p).all() for p in model.parameters()):
        raise ConfigError(f"{place}: some are not finite numbers; the training went wrong")
    model.requires_grad_(False)
    torch.nn.Module.eval(model)
    return model


def _config_of(folder: Path, place: str) -> InContextConfig:
    document = json.loads((folder / "config.json").read_text())
    kind = document["model_type"]
    if kind != InContextConfig.model_type:
        raise ConfigError(
            f"{place}: of model type '{kind}'; accepted: {InContextConfig.model_type}"
        )
    config = InContextConfig(**document)
    if config.format != FORMAT:
        raise ConfigError(f"{place}: format {config.format}; this version reads format {FORMAT}")
    return config
