"""The models that LoRA searches adapt, untrained: the embedded ones, and those of a config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class EmbeddedBase:
    """An architecture that comes with the package."""

    build: Callable[[], nn.Module]
    """The untrained model; it may be called under ``torch.device("meta")``."""
    targets: tuple[str, ...]
    """The patterns of the modules to adapt, unless the run file has its own."""


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
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)


EMBEDDED: dict[str, EmbeddedBase] = {
    "builtin:language": EmbeddedBase(language, ("q_proj", "v_proj", "up_proj", "down_proj")),
}
"""A new embedded base is a function and one line here."""
