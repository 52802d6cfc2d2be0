"""Users' own search spaces, from TOML files.

name = "mlp"
builder = "my_models:mlp"        # optional: builder(config, in_channels=, classes=, **settings)
settings = { dropout = 0.1 }     # optional: further keyword arguments of the builder

[[positions]]
name = "width"
choices = [32, 64, 128]
ordered = true                   # optional: numbers that rise or fall are ordered anyway
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_searcher.spaces.errors import SpaceError, unknown
from lm_searcher.spaces.space import Position, SearchSpace

KEYS = ("name", "builder", "settings", "positions")
POSITION_KEYS = ("name", "choices", "ordered")


def load_space(path: str | Path) -> SearchSpace:
    """The space of a TOML file. Raises SpaceError that names the file and the place."""
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise SpaceError(f"space file '{path}': {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpaceError(f"space file '{path}' is no valid TOML: {error}") from None
    try:
        return parse_space(document, default_name=Path(path).stem)
    except SpaceError as error:
        raise SpaceError(f"space file '{path}': {error}") from None


def parse_space(document: Mapping[str, Any], default_name: str) -> SearchSpace:
    """The space that a parsed TOML document describes. Raises SpaceError."""
    _check_keys(document, KEYS, "key")
    positions = document.get("positions")
    if not isinstance(positions, list) or not positions:
        raise SpaceError("no [[positions]]; give at least one, with name and choices")
    builder = document.get("builder")
    if builder is not None and (not isinstance(builder, str) or builder.count(":") != 1):
        raise SpaceError(f'builder = {builder!r}; accepted: "module:function"')
    settings = document.get("settings", {})
    if not isinstance(settings, dict):
        raise SpaceError(f"settings = {settings!r}; accepted: a table of keyword arguments")
    name = document.get("name", default_name)
    if not isinstance(name, str) or not name:
        raise SpaceError(f"name = {name!r}; accepted: text")
    return SearchSpace(
        name, tuple(_position(p, i) for i, p in enumerate(positions)), builder, settings
    )


def _position(entry: object, index: int) -> Position:
    place = f"positions[{index}]"
    if not isinstance(entry, dict):
        raise SpaceError(f"{place} is {entry!r}; accepted: a table with name and choices")
    _check_keys(entry, POSITION_KEYS, f"key in {place}")
    name, choices, ordered = (entry.get(key) for key in POSITION_KEYS)
    if not isinstance(name, str):
        raise SpaceError(f"{place}: name = {name!r}; accepted: text")
    if not isinstance(choices, list):
        raise SpaceError(f"{place}: choices = {choices!r}; accepted: a list of options")
    if ordered not in (None, True, False):
        raise SpaceError(f"{place}: ordered = {ordered!r}; accepted: true, false")
    return Position(name, tuple(choices), ordered)


def _check_keys(table: Mapping[str, Any], accepted: tuple[str, ...], what: str) -> None:
    for key in table:
        if key not in accepted:
            raise SpaceError(unknown(what, key, accepted))
