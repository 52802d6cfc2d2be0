"""Names of builders, "module:function": those of earlier versions still work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MOVED = {
    f"lm_searcher.spaces.{space}_network": f"lm_searcher.spaces.{space}.network"
    for space in ("darts", "lora", "macro", "nb201", "transformer")
}
_FIRST = {current: first for first, current in _MOVED.items()}


def current_builder(name: str) -> str:
    """The present name of a builder; other names are returned unchanged."""
    module, colon, function = name.partition(":")
    return _MOVED.get(module, module) + colon + function


def recorded_builder(name: str) -> str:
    """The name under which runs store a builder: a built-in one keeps its first name."""
    module, colon, function = name.partition(":")
    return _FIRST.get(module, module) + colon + function


def current_identity(identity: Any) -> Any:
    """An evaluator's stored identity with the present name of its builder.

    Runs store the builder's name, and a run only goes on with an evaluator of equal identity: both
    are compared in this form.
    """
    if isinstance(identity, Mapping) and isinstance(builder := identity.get("builder"), str):
        return {**identity, "builder": current_builder(builder)}
    return identity
