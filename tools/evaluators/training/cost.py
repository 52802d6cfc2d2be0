"""What a model costs, told without training it: by its space's own formula, or by counting."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.spaces.ncode import Codes, to_ncodes
from lm_searcher.spaces.space import Config, SearchSpace

COUNTED = "params_m"
"""The metric that a model tells without a formula, once it is built on no device."""


def costs_of(
    space: SearchSpace,
    builder: Callable[..., Any],
    call: Mapping[str, Any],
    size: Mapping[str, int],
    codes: Codes,
    metrics: Collection[str],
) -> Mapping[str, NDArray[np.float64]]:
    """Those of `metrics` that need no training, of each architecture. See CostedEvaluator.

    `call` are the keywords of the space's builder, `size` its image_size
    (the side in pixels) where it reads images.
    """
    if space.cost is not None:
        return told_costs(space, {**size, **call}, codes, metrics)
    if COUNTED not in metrics:
        return {}
    configs = map(space.decode, to_ncodes(codes))
    return {COUNTED: np.array([_counted(space, builder, call, config) for config in configs])}


def told_costs(
    space: SearchSpace, call: Mapping[str, Any], codes: Codes, metrics: Collection[str]
) -> Mapping[str, NDArray[np.float64]]:
    """As `costs_of`, by the space's formula, which gets `call`; nothing where there is none."""
    if space.cost is None:
        return {}
    told = [space.cost(space.decode(ncode), **call) for ncode in to_ncodes(codes)]
    names = {name for costs in told for name in costs} & set(metrics)
    return {
        name: np.array([costs.get(name, np.nan) for costs in told], np.float64) for name in names
    }


def _counted(
    space: SearchSpace, builder: Callable[..., Any], call: Mapping[str, Any], config: Config
) -> float:
    """Millions of trainable parameters, of a model that holds no numbers; NaN for a configuration
    that cannot be built."""
    import torch

    from lm_searcher.tools.evaluators.training.counting import count_parameters

    try:
        with torch.device("meta"):
            model = builder(config, **call)
    except Exception:  # the evaluation boundary: its trial will fail, and tell the reason
        return float("nan")
    if not isinstance(model, torch.nn.Module):
        raise EvaluatorError(
            f"builder of space '{space.name}' returned a {type(model).__name__}; "
            "accepted: a torch.nn.Module"
        )
    return count_parameters(model) / 1e6
