"""Untrained base models of LoRA searches: the built-in ones, and those of a config.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.errors import SpaceError, unknown
from lm_searcher.spaces.lora.configs import find_config, from_config

if TYPE_CHECKING:
    from torch import nn

PREFIX = "builtin:"
DEFAULT_BASE = f"{PREFIX}language"


@dataclass(frozen=True)
class EmbeddedBase:
    """A base model that comes with the package."""

    build: Callable[[], nn.Module]
    """Makes the untrained model; also called under ``torch.device("meta")``."""
    targets: tuple[str, ...]
    """Patterns of the modules to adapt, unless the settings have others."""
    outline: Callable[[], Outline] | None = None
    """The matching modules without loading a framework; must agree with the model."""


@dataclass(frozen=True)
class Outline:
    """The adapted modules and the size of a built-in base, without the model."""

    per_rank: Mapping[str, int]
    """The parameters of a rank of 1 by module name, in the model's order."""
    parameters: int


def language_outline() -> Outline:
    """The outline of `language`, for lists of spaces, which must not load torch."""
    width, inner, layers = 96, 256, 3
    shapes = {
        "self_attn.q_proj": 2 * width,
        "self_attn.v_proj": 2 * width,
        "mlp.up_proj": width + inner,
        "mlp.down_proj": width + inner,
    }
    layer = 4 * width**2 + 3 * width * inner + 2 * width
    return Outline(
        {f"model.layers.{i}.{name}": size for i in range(layers) for name, size in shapes.items()},
        layers * layer + 2 * 256 * width + width,
    )


def language() -> nn.Module:
    """A small Llama over bytes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=256,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)


SEGMENTER: dict[str, Any] = {
    "num_channels": 1,
    "num_encoder_blocks": 3,
    "depths": [1, 1, 1],
    "hidden_sizes": [16, 32, 48],
    "patch_sizes": [5, 3, 3],
    "strides": [2, 2, 2],
    "sr_ratios": [4, 2, 1],
    "num_attention_heads": [1, 2, 3],
    "mlp_ratios": [2, 2, 2],
    "decoder_hidden_size": 32,
    "classifier_dropout_prob": 0.0,
    "drop_path_rate": 0.0,
}


def segmenter(classes: int = 4) -> nn.Module:
    """A small SegFormer for grey images of 32x32; `classes` includes the background."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    labels = {number: str(number) for number in range(classes)}
    return SegformerForSemanticSegmentation(SegformerConfig(**SEGMENTER, id2label=labels))


def diffuser() -> nn.Module:
    """A small diffusion model of digits."""
    from lm_searcher.spaces.lora.diffuser import Diffuser

    return Diffuser()


EMBEDDED: dict[str, EmbeddedBase] = {
    DEFAULT_BASE: EmbeddedBase(
        language, ("q_proj", "v_proj", "up_proj", "down_proj"), language_outline
    ),
    "builtin:segmenter": EmbeddedBase(
        segmenter, ("patch_embeddings.proj", "[qv]_proj", "fc1", "fc2")
    ),
    "builtin:diffuser": EmbeddedBase(diffuser, ("attn1.to_v", "attn2.to_v", "ff.net.2")),
}
"""A new built-in base is a function and one line here."""


def untrained(base: str, device: str = "meta") -> nn.Module:
    """The base's architecture: "builtin:NAME", a directory, or a hub id.

    On the meta device it takes no memory. Raises SpaceError.
    """
    import torch

    with torch.device(device):
        if base.startswith(PREFIX):
            if base not in EMBEDDED:
                raise SpaceError(unknown("base", base, EMBEDDED) + ", a directory, or a hub id")
            return EMBEDDED[base].build()
        return from_config(find_config(base))
