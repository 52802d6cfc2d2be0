"""The search spaces that come with the package, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from lm_searcher.spaces.darts.space import darts
from lm_searcher.spaces.errors import SpaceError, unknown
from lm_searcher.spaces.lora.space import lora
from lm_searcher.spaces.macro.space import macro
from lm_searcher.spaces.nb201.space import nb201
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.transformer.space import transformer

BUILTIN: dict[str, Callable[..., SearchSpace]] = {
    "darts": darts,
    "lora": lora,
    "macro": macro,
    "nb201": nb201,
    "transformer": transformer,
}
"""A new space is one line here; its function checks the values of its own settings."""


def builtin(name: str, **settings: Any) -> SearchSpace:
    """The space `name`; raises SpaceError for an unknown name, or a setting it does not take."""
    if name not in BUILTIN:
        raise SpaceError(unknown("search space", name, BUILTIN))
    accepted = inspect.signature(BUILTIN[name]).parameters
    for setting in settings:
        if setting not in accepted:
            raise SpaceError(unknown(f"setting of space '{name}'", setting, accepted))
    return BUILTIN[name](**settings)
