"""Which modules of a model are adapted, by patterns of their names, and what an adapter costs."""

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
    """A rank must be a multiple of it: a convolution's groups."""


def find_targets(model: nn.Module, patterns: Sequence[str]) -> tuple[Target, ...]:
    """The modules whose dotted names match a pattern, in the model's order.

    A pattern is fnmatch's (``*``, ``?``, ``[qv]``) and matches a whole name or its last parts.
    Raises SpaceError for a pattern without a match, and a match that LoRA cannot adapt.
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
    if not per_rank or type(parent).__name__ == "MultiheadAttention":  # it reads only the weight
        raise SpaceError(
            f"targets: module '{name}' is a {type(module).__name__}, which LoRA cannot adapt; "
            "accepted: Linear, Embedding, and Conv1d, Conv2d and Conv3d without dilation"
        )
    return Target(name, per_rank, int(getattr(module, "groups", 1)))


def _per_rank(module: nn.Module) -> int:
    """The parameters of a LoRA of rank 1 as peft makes it; 0 for what it cannot adapt.

    A convolution's first factor has its kernel and sees all input channels, the second is of
    size 1 and has its groups.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        if any(d != 1 for d in module.dilation):  # peft's adapter has none: other shapes come out
            return 0
        kernel = math.prod(module.kernel_size)
        return kernel * module.in_channels + module.out_channels // module.groups
    if isinstance(module, nn.Linear | nn.Embedding | Conv1D):
        return sum(module.weight.shape)
    return 0


def grouped(targets: Sequence[Target], group: str | None = None) -> dict[str, tuple[Target, ...]]:
    """Targets that share a decision, by the name of the decision.

    `group` is a regular expression that is searched in a module's name: what its brackets match,
    or all of the match, names the group; None makes each module its own. Raises SpaceError.
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
