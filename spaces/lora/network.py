"""A base with LoRA adapters in it, by peft."""

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
    """The untrained base with the configuration's adapters; they alone require a gradient."""
    model = untrained(base, device="cpu")
    attach(model, Adapters.on(model, targets, group, alpha).of(config))
    return model


def attach(model: nn.Module, adapters: Mapping[str, tuple[int, float]]) -> None:
    """Put LoRA adapters into `model`, in place, and freeze all else.

    `adapters` has rank and alpha by module name. Their weights are drawn from torch's generator;
    the second factor is zero, so that the model computes what it did. They are float32 whatever
    the base is: in bfloat16 the steps of an optimizer are lost in rounding.
    """
    model.requires_grad_(False)
    if not adapters:
        return
    exact = {name: f"^{re.escape(name)}" for name in adapters}  # peft would match endings as well
    config = peft.LoraConfig(
        target_modules=f"(?:{'|'.join(map(re.escape, adapters))})",
        rank_pattern={exact[name]: rank for name, (rank, _) in adapters.items()},
        alpha_pattern={exact[name]: alpha for name, (_, alpha) in adapters.items()},
    )
    with warnings.catch_warnings():  # of what the space has checked, and of merging
        warnings.simplefilter("ignore", UserWarning)
        peft.inject_adapter_in_model(config, model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
