"""A base model with LoRA adapters, by peft."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence

import peft
from torch import nn

from lm_searcher.spaces.lora.bases import untrained
from lm_searcher.spaces.lora.space import Adapters
from lm_searcher.spaces.space import Config


def build(
    config: Config,
    base: str,
    targets: Sequence[str],
    group: str | None = None,
    alpha: float | None = None,
) -> nn.Module:
    """The untrained base with the configuration's adapters; only they require gradients."""
    model = untrained(base, device="cpu")
    attach(model, Adapters.on(model, targets, group, alpha).of(config))
    return model


def attach(model: nn.Module, adapters: Mapping[str, tuple[int, float]]) -> None:
    """Add LoRA adapters to `model` in place, and freeze all other parameters.

    `adapters` has rank and alpha by module name. The weights of their first factor are drawn from
    torch's generator; the second factor is zero, so that the outputs do not change. Adapters are
    float32 for every type of the base: in bfloat16, rounding would lose an optimizer's steps.
    """
    model.requires_grad_(False)
    if not adapters:
        return
    exact = {name: f"^{re.escape(name)}" for name in adapters}  # peft would also match suffixes
    config = peft.LoraConfig(
        target_modules=f"(?:{'|'.join(map(re.escape, adapters))})",
        rank_pattern={exact[name]: rank for name, (rank, _) in adapters.items()},
        alpha_pattern={exact[name]: alpha for name, (_, alpha) in adapters.items()},
    )
    with warnings.catch_warnings():  # about checks that the space has made, and about merging
        warnings.simplefilter("ignore", UserWarning)
        peft.inject_adapter_in_model(config, model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
