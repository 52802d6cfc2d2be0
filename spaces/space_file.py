"""Users' own search spaces, from TOML files.

name = "mlp"
builder = "my_models:mlp"        # optional: builder(config, in_channels=, classes=, **settings)
settings = { dropout = 0.1 }     # optional: further keyword arguments of the builder

[[positions]]
name = "width"
choices = [32, 64, 128]
ordered = true                   # optional: ascending or descending numbers are ordered anyway
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from lm_searcher.spaces.errors import SpaceError
from lm_searcher.spaces.model import Accepted, Flag, FrozenModel, Text, check
from lm_searcher.spaces.space import Position, SearchSpace


class PositionTable(FrozenModel):
    """One entry of `positions`; its options are checked by `Position`."""

    name: Annotated[str, Accepted("text")]
    choices: Annotated[list[Any], Accepted("a list of options")]
    ordered: Annotated[Flag | None, Accepted("true, false")] = None


class SpaceFile(FrozenModel):
    """The document of a space file."""

    name: Annotated[Text | None, Accepted("text")] = None
    builder: Annotated[
        Annotated[str, Field(pattern=r"^[^:]+:[^:]+$")] | None, Accepted('"module:function"')
    ] = None
    settings: Annotated[
        dict[str, Any], Field(default_factory=dict), Accepted("a table of keyword arguments")
    ]
    positions: Annotated[
        list[PositionTable],
        Field(min_length=1),
        Accepted("one or more [[positions]], each with name and choices"),
    ]


def load_space(path: str | Path) -> SearchSpace:
    """The space of a TOML file. Raises SpaceError that names the file and the place in it."""
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
    """The space of a parsed TOML document. Raises SpaceError."""
    file = check(SpaceFile, document)
    positions = tuple(Position(p.name, tuple(p.choices), p.ordered) for p in file.positions)
    return SearchSpace(file.name or default_name, positions, file.builder, file.settings)
