"""Slash commands: every tool has one, made from its schema.

    /search nb201 --trials 50      start_search(space="nb201", trials=50)
    /status                        status()

A command is a tool's name, or a part of it that no other tool has. Words fill the required
arguments and then the others, in the order of the schema; ``--name value`` sets one by name.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from lm_searcher.agent.chat.slash_values import argument_value, is_bool, kinds
from lm_searcher.agent.toolbox.registry import TOOLS
from lm_searcher.agent.toolbox.tool import Tool
from lm_searcher.spaces.errors import ChatError, unknown

OWN = {
    "help": "the commands, or one of them: /help search",
    "watch": "follow a run as it happens; Ctrl-C ends the watching, not the run",
    "quit": "leave; searches may go on",
}
"""Commands of the chat itself; models cannot call them."""


@dataclass(frozen=True)
class Command:
    """A parsed line."""

    name: str
    """A tool's name, or a key of OWN."""
    arguments: dict[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    """The words after a command of OWN."""


@cache
def _own_words() -> dict[str, list[str]]:
    """The words of each tool's name that no other tool has, by tool."""
    counts = Counter(word for name in TOOLS for word in set(name.split("_"))) + Counter(OWN.keys())
    return {name: [w for w in name.split("_") if counts[w] == 1] for name in TOOLS}


@cache
def short_names() -> dict[str, str]:
    """The command of each tool as shown: the longest word that is its own."""
    return {
        name: max(words, key=len) if words else name.replace("_", "-")
        for name, words in _own_words().items()
    }


def names() -> dict[str, str]:
    """All commands with a line about each."""
    short = short_names()
    lines = {short[name]: first_sentence(tool.description) for name, tool in TOOLS.items()}
    return dict(sorted(lines.items())) | OWN


def tool_of(name: str) -> str:
    """The tool or own command that a name or an unambiguous prefix means. Raises ChatError."""
    plain = name.lower().replace("-", "_")
    if plain in TOOLS or plain in OWN:
        return plain
    meant = {word: tool for tool, words in _own_words().items() for word in words}
    starts = {meant.get(word, word) for word in [*meant, *OWN] if word.startswith(plain)}
    if plain not in meant and (not plain or len(starts) != 1):
        raise ChatError(unknown("command", name, names()))
    return meant.get(plain) or starts.pop()


def parse(line: str) -> Command:
    """Parse a line that begins with a slash. Raises ChatError."""
    try:
        head, *words = shlex.split(line[1:]) or ["help"]
    except ValueError as error:
        raise ChatError(f"{line}: {str(error).lower()}") from None
    name = tool_of(head)
    if name in OWN:
        return Command(name, words=tuple(words))
    return Command(name, _arguments(TOOLS[name], words))


def order(tool: Tool) -> list[str]:
    """The arguments in the order in which words fill them: required ones first."""
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
        if not equals and "boolean" in kinds(properties[key]) and not is_bool(words[:1]):
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
    return {key: argument_value(key, values, properties[key]) for key, values in given.items()}


def usage(tool: Tool) -> str:
    """The usage line of a tool's command."""
    required = tool.schema.get("required", [])
    parts = [f"/{short_names()[tool.name]}", *(f"<{key}>" for key in required)]
    for key in order(tool)[len(required) :]:
        flag = f"--{key.replace('_', '-')}"
        kind = kinds(tool.schema["properties"][key])
        parts.append(f"[{flag}]" if "boolean" in kind else f"[{flag} {key.upper()}]")
    return " ".join(parts)


def first_sentence(text: str) -> str:
    """The first sentence of a text, without its full stop."""
    return re.split(r"(?<=[.;])\s", " ".join(text.split()), maxsplit=1)[0].rstrip(".;")
