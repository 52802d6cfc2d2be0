"""From the words of a slash command to the values of a tool's arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lm_searcher.spaces.errors import ChatError


def kinds(schema: Mapping[str, Any]) -> set[str]:
    """The JSON types that a schema accepts, with alternatives."""
    found = {str(schema["type"])} if "type" in schema else set()
    for option in schema.get("anyOf", []):
        found |= kinds(option)
    return found | ({"object"} if "$ref" in schema else set())


def argument_value(key: str, words: list[str], schema: Mapping[str, Any]) -> Any:
    """The value of the argument `key` from the words that were given for it.

    Raises ChatError for several words where the schema takes one. The tool checks the rest.
    """
    accepted = kinds(schema)
    if "array" in accepted:
        parsed = _json(words[0])
        if len(words) == 1 and isinstance(parsed, list):
            return parsed
        found = [entry for word in words for entry in word.split(",") if entry]
        return found if _items(schema) == {"string"} else [_plain(entry) for entry in found]
    if len(words) > 1 and "object" not in accepted:
        raise ChatError(f"--{key.replace('_', '-')} is given twice")
    if "object" in accepted and not isinstance(_json(words[0]), dict):
        pairs = [pair.partition("=") for word in words for pair in word.split(",")]
        return {name: _plain(value) for name, _, value in pairs}
    if accepted <= {"string", "null"}:
        return words[0]
    return _plain(words[0])


def _items(schema: Mapping[str, Any]) -> set[str]:
    options = [schema, *schema.get("anyOf", [])]
    return next((kinds(option["items"]) for option in options if "items" in option), set())


def _plain(word: str) -> Any:
    """The word as JSON if it is JSON, else unchanged."""
    parsed = _json(word)
    return word if parsed is None else parsed


def _json(word: str) -> Any:
    try:
        return json.loads(word)
    except (ValueError, RecursionError):
        return None


def is_bool(words: list[str]) -> bool:
    """Whether the first word is a truth value."""
    return bool(words) and words[0] in ("true", "false")


def description(schema: Mapping[str, Any]) -> str:
    """The description of an argument; empty if its schema has none."""
    texts = [schema.get("description", "")]
    texts += [option.get("description", "") for option in schema.get("anyOf", [])]
    return next((text for text in texts if text), "")
