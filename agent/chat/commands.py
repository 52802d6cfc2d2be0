"""Slash commands: every tool, by its schema. No code is written for a single one of them.

    /search nb201 --trials 50      start_search(space="nb201", trials=50)
    /status                        status()

A command is a tool's name, or a part of it that no other tool has. Words fill the required
arguments and then the others, in the order of the schema; ``--name value`` sets one by name.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from lm_searcher.agent.toolbox.tools import TOOLS, Tool
from lm_searcher.spaces.errors import ChatError, unknown

OWN = {
    "help": "the commands, or one of them: /help search",
    "watch": "follow a run as it happens; Ctrl-C ends the watching, not the run",
    "quit": "leave; searches may go on",
}
"""What the chat itself does, for a person only."""


@dataclass(frozen=True)
class Command:
    """A line that was understood."""

    name: str
    """A tool's name, or a key of OWN."""
    arguments: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    """Of a command of OWN."""


@cache
def short_names() -> dict[str, str]:
    """Each command's shortest name, by tool: a word of the tool's name that is its own."""
    words = {name: name.split("_") for name in TOOLS}
    found: dict[str, str] = {}
    for name, parts in words.items():
        others = {w for other, ws in words.items() if other != name for w in ws} | set(OWN)
        own = [part for part in parts if part not in others]
        found[name] = own[-1] if own else name.replace("_", "-")
    return found


def names() -> dict[str, str]:
    """All that may be typed after the slash, with a line about it."""
    short = short_names()
    lines = {short[name]: first_sentence(tool.description) for name, tool in TOOLS.items()}
    return dict(sorted(lines.items())) | OWN


def tool_of(name: str) -> str:
    """The tool that a command means. Raises ChatError."""
    plain = name.lower().replace("-", "_")
    meant = {short: tool for tool, short in short_names().items()}
    found = meant.get(plain.replace("_", "-")) or (plain if plain in TOOLS or plain in OWN else "")
    if not found:
        starts = [n for n in [*meant, *OWN] if n.startswith(name.lower())]
        if len(starts) != 1:
            raise ChatError(unknown("command", name, names()))
        found = meant.get(starts[0], starts[0])
    return found


def parse(line: str) -> Command:
    """What a line that begins with a slash means. Raises ChatError."""
    try:
        head, *words = shlex.split(line[1:]) or ["help"]
    except ValueError as error:
        raise ChatError(f"{line}: {str(error).lower()}") from None
    name = tool_of(head)
    if name in OWN:
        return Command(name, words=tuple(words))
    return Command(name, _arguments(TOOLS[name], words))


def order(tool: Tool) -> list[str]:
    """The arguments as words fill them: the required ones, then the others."""
    schema = tool.schema
    required = list(schema.get("required", []))
    return required + [key for key in schema.get("properties", {}) if key not in required]


def _arguments(tool: Tool, words: list[str]) -> dict[str, Any]:
    properties: Mapping[str, Any] = tool.schema.get("properties", {})
    given: dict[str, list[str]] = {}
    loose: list[str] = []
    while words:
        word = words.pop(0)
        if not re.match(r"--[A-Za-z]", word):
            loose.append(word)
            continue
        flag, equals, value = word[2:].partition("=")
        key = flag.replace("-", "_")
        if key not in properties:
            flags = [f"--{name.replace('_', '-')}" for name in properties]
            raise ChatError(unknown("argument", f"--{flag}", flags))
        if not equals and "boolean" in kinds(properties[key]) and not _is_bool(words[:1]):
            value = "true"
        elif not equals:
            if not words:
                raise ChatError(f"--{flag} wants a value")
            value = words.pop(0)
        given.setdefault(key, []).append(value)
    for key in order(tool):
        if not loose:
            break
        if key not in given:
            many = kinds(properties[key]) & {"array"}
            given[key] = loose if many else loose[:1]
            loose = [] if many else loose[1:]
    if loose:
        raise ChatError(f"'{' '.join(loose)}' is too much; usage: {usage(tool)}")
    return {key: _value(key, values, properties[key]) for key, values in given.items()}


def kinds(schema: Mapping[str, Any]) -> set[str]:
    """The JSON types that a schema accepts."""
    found = {str(schema["type"])} if "type" in schema else set()
    for option in schema.get("anyOf", []):
        found |= kinds(option)
    return found | ({"object"} if "$ref" in schema else set())


def _value(key: str, words: list[str], schema: Mapping[str, Any]) -> Any:
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
    """A number, a truth or JSON where the word is one; else the word."""
    parsed = _json(word)
    return word if parsed is None else parsed


def _json(word: str) -> Any:
    try:
        return json.loads(word)
    except (ValueError, RecursionError):
        return None


def _is_bool(words: list[str]) -> bool:
    return bool(words) and words[0] in ("true", "false")


def usage(tool: Tool) -> str:
    """How a tool's command is typed."""
    required = tool.schema.get("required", [])
    parts = [f"/{short_names()[tool.name]}", *(f"<{key}>" for key in required)]
    for key in order(tool)[len(required) :]:
        flag = f"--{key.replace('_', '-')}"
        kind = kinds(tool.schema["properties"][key])
        parts.append(f"[{flag}]" if "boolean" in kind else f"[{flag} {key.upper()}]")
    return " ".join(parts)


def first_sentence(text: str) -> str:
    """Without what comes after, and without the full stop."""
    return re.split(r"(?<=[.:;])\s", " ".join(text.split()), maxsplit=1)[0].rstrip(".:;")


def closest(sentence: str) -> str:
    """The command whose name and description share the most words with a sentence."""

    def stems(text: str) -> set[str]:
        return {word[:5] for word in re.findall(r"[a-z]{3,}", text.lower())}

    said = stems(sentence)

    def shared(name: str) -> tuple[int, int]:
        tool = TOOLS[name]
        mine, about = stems(name.replace("_", " ")), stems(tool.description)
        return 3 * len(said & mine) + len(said & about), -len(about)

    best = max(TOOLS, key=shared)
    return short_names()[best] if shared(best)[0] else "help"
