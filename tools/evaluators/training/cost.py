"""What a model costs, without training it: by its space's formula, or by counting."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.ncode import Codes, to_ncodes
from lm_searcher.spaces.space import Config, SearchSpace
from lm_searcher.tools.evaluators.training.builder import as_module, builder_of

COUNTED = "params_m"
"""The metric that can be counted on a model without a formula."""

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""


def costs_of(
    space: SearchSpace,
    call: Mapping[str, Any],
    shape: Shape | None,
    codes: Codes,
    metrics: Collection[str],
) -> Mapping[str, NDArray[np.float64]]:
    """Those of `metrics` that need no training, each of shape [n]. See CostedEvaluator.

    `call` are the keywords of the space's builder, `shape` that of the images; None for text.
    """
    if space.cost is not None:
        if shape is not None and not _square(shape):
            metrics = {*metrics} - {"flops_m"}
        return formula_costs(space, {**_size(shape), **call}, codes, metrics)
    if COUNTED not in metrics:
        return {}
    configs = map(space.decode, to_ncodes(codes))
    return {COUNTED: np.array([_counted(space, call, config) for config in configs])}


def formula_costs(
    space: SearchSpace, call: Mapping[str, Any], codes: Codes, metrics: Collection[str]
) -> Mapping[str, NDArray[np.float64]]:
    """As `costs_of`, by the space's formula, which gets `call`; empty without a formula."""
    if space.cost is None:
        return {}
    rows = [space.cost(space.decode(ncode), **call) for ncode in to_ncodes(codes)]
    names = {name for row in rows for name in row} & set(metrics)
    return {name: np.array([row.get(name, np.nan) for row in rows], np.float64) for name in names}


def flops_by_formula(
    space: SearchSpace, config: Config, call: Mapping[str, Any], shape: Shape
) -> float | None:
    """Millions of operations for one image by the space's formula; None without one.

    The formula is exact for square images, and counting takes longer than a forward pass.
    """
    if space.cost is None or not _square(shape):
        return None
    return space.cost(config, **{**_size(shape), **call}).get("flops_m")


def _size(shape: Shape | None) -> dict[str, int]:
    return {} if shape is None else {"image_size": shape[1]}


def _square(shape: Shape) -> bool:
    """Whether the formulas of spaces hold: they assume square images."""
    return shape[1] == shape[2]


def _counted(space: SearchSpace, call: Mapping[str, Any], config: Config) -> float:
    """Millions of trainable parameters; NaN for a configuration that cannot be built.

    The model is built on the meta device, where tensors have a shape but no memory.
    """
    import torch

    from lm_searcher.tools.evaluators.training.counting import count_parameters

    builder = builder_of(space)
    try:
        with torch.device("meta"):
            model = builder(config, **call)
    except Exception:  # the evaluation boundary: the trial itself will fail with the reason
        return float("nan")
    return count_parameters(as_module(space, model)) / 1e6
