"""The modules of a model to adapt, by patterns of their names, and the cost of an adapter."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lm_searcher.spaces.errors import SpaceError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Target:
    """One module to adapt."""

    name: str
    per_rank: int
    """The parameters that a rank of 1 adds."""
    multiple: int = 1
    """Ranks must be multiples of this number: a convolution's groups."""


def find_targets(model: nn.Module, patterns: Sequence[str]) -> tuple[Target, ...]:
    """The modules whose dotted names match a pattern, in the model's order.

    A pattern of fnmatch (``*``, ``?``, ``[qv]``) matches a whole name or its last parts. Raises
    SpaceError for a pattern without a match, and for a match that LoRA cannot adapt.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    chosen: set[str] = set()
    for pattern in patterns:
        found = [n for n in modules if fnmatchcase(n, pattern) or fnmatchcase(n, f"*.{pattern}")]
        if not found:
            leaves = sorted({n.rpartition(".")[2] for n, m in modules.items() if _per_rank(m)})
            raise SpaceError(
                f"targets: '{pattern}' matches no module of the base; it has modules that end in: "
                + ", ".join(leaves)
            )
        chosen.update(found)
    return tuple(_target(name, modules) for name in modules if name in chosen)


def _target(name: str, modules: Mapping[str, nn.Module]) -> Target:
    module = modules[name]
    parent = modules.get(name.rpartition(".")[0])
    per_rank = _per_rank(module)
    if not per_rank or type(parent).__name__ == "MultiheadAttention":  # it uses only the weight
        raise SpaceError(
            f"targets: module '{name}' is a {type(module).__name__}, which LoRA cannot adapt; "
            "accepted: Linear, Embedding, and Conv1d, Conv2d and Conv3d without dilation"
        )
    return Target(name, per_rank, int(getattr(module, "groups", 1)))


def _per_rank(module: nn.Module) -> int:
    """The parameters of peft's adapter of rank 1; 0 for modules that peft cannot adapt.

    A convolution's first factor has its kernel and all input channels; the second has a kernel of
    size 1 and its groups.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        if any(
            d != 1 for d in module.dilation
        ):  # peft's adapter has no dilation: the output would have another shape
            return 0
        kernel = math.prod(module.kernel_size)
        return kernel * module.in_channels + module.out_channels // module.groups
    if isinstance(module, nn.Linear | nn.Embedding | Conv1D):
        return sum(module.weight.shape)
    return 0


def grouped(targets: Sequence[Target], group: str | None = None) -> dict[str, tuple[Target, ...]]:
    """The targets by group; the targets of a group share their rank.

    `group` is a regular expression that is searched in each module's name. Its capturing groups,
    or else the whole match, are the name of the group. None: each module is a group. Raises
    SpaceError.
    """
    if group is None:
        return {target.name: (target,) for target in targets}
    try:
        expression = re.compile(group)
    except re.error as error:
        raise SpaceError(f"group = {group!r} is no regular expression: {error}") from None
    groups: dict[str, tuple[Target, ...]] = {}
    for target in targets:
        found = expression.search(target.name)
        name = found and (".".join(filter(None, found.groups())) or found[0])
        if not name:
            raise SpaceError(f"group = {group!r} does not match target '{target.name}'")
        groups[name] = (*groups.get(name, ()), target)
    return groups
