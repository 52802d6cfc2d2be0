"""The search spaces that come with the package, or with an installed package, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from lm_searcher.spaces.errors import SpaceError, unknown
from lm_searcher.spaces.registry import Registry
from lm_searcher.spaces.space import SearchSpace

_HERE = "lm_searcher.spaces"
BUILTIN: Registry[Callable[..., SearchSpace]] = Registry(
    "search space",
    "lm_searcher.spaces",
    {
        "darts": f"{_HERE}.darts.space:darts",
        "lora": f"{_HERE}.lora.space:lora",
        "macro": f"{_HERE}.macro.space:macro",
        "nb201": f"{_HERE}.nb201.space:nb201",
        "transformer": f"{_HERE}.transformer.space:transformer",
    },
    SpaceError,
)
"""A new space is one file and one line: a function, which checks the values of its settings."""


def builtin(name: str, **settings: Any) -> SearchSpace:
    """The space `name`; raises SpaceError for an unknown name, or a setting it does not take."""
    make = BUILTIN[name]
    accepted = inspect.signature(make).parameters
    for setting in settings:
        if setting not in accepted:
            raise SpaceError(unknown(f"setting of space '{name}'", setting, accepted))
    return make(**settings)
