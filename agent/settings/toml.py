"""TOML files, read into settings and written."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.settings import Model, checked
from lm_searcher.tools.files import write_atomically


def load_toml(
    model: type[Model], what: str, path: str | Path, overrides: Mapping[str, Any]
) -> Model:
    """The TOML file at `path` as a `model`, with `overrides` on top. Raises ConfigError, whose
    message begins with `what`, the kind of file.
    """
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{what} '{path}': {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} '{path}' is no valid TOML: {error}") from None
    for section, values in overrides.items():
        if values is None:
            document.pop(section, None)
        elif not isinstance(values, Mapping):
            document[section] = values
        elif isinstance(table := document.setdefault(section, {}), dict):
            table.update(values)
    return checked(model, document, f"{what} '{path}'")


def dumps(document: Mapping[str, Any]) -> str:
    """The document as TOML; None is left out, a path is text.

    Raises ConfigError for text that is not valid Unicode.
    """
    text = tomli_w.dumps(_plain(document))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{error.object[error.start : error.end]!r} is no valid text") from None
    return text


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all. Raises ConfigError if the place cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise ConfigError(f"'{path.name}' cannot be written: {error.strerror}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
