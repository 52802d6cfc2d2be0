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
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from lm_searcher.agent.toolbox.registry import TOOLS, Tool
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
def _own_words() -> dict[str, list[str]]:
    """By tool, the words of its name that no other tool has."""
    counts = Counter(word for name in TOOLS for word in set(name.split("_"))) + Counter(OWN.keys())
    return {name: [w for w in name.split("_") if counts[w] == 1] for name in TOOLS}


@cache
def short_names() -> dict[str, str]:
    """The name that each tool's command is shown by: the longest word of its own."""
    return {
        name: max(words, key=len) if words else name.replace("_", "-")
        for name, words in _own_words().items()
    }


def names() -> dict[str, str]:
    """All that may be typed after the slash, with a line about it."""
    short = short_names()
    lines = {short[name]: first_sentence(tool.description) for name, tool in TOOLS.items()}
    return dict(sorted(lines.items())) | OWN


def tool_of(name: str) -> str:
    """The tool that a command means. Raises ChatError."""
    plain = name.lower().replace("-", "_")
    if plain in TOOLS or plain in OWN:
        return plain
    meant = {word: tool for tool, words in _own_words().items() for word in words}
    starts = {meant.get(word, word) for word in [*meant, *OWN] if word.startswith(plain)}
    if plain not in meant and (not plain or len(starts) != 1):
        raise ChatError(unknown("command", name, names()))
    return meant.get(plain) or starts.pop()


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
    return re.split(r"(?<=[.;])\s", " ".join(text.split()), maxsplit=1)[0].rstrip(".;")


def closest(sentence: str) -> str:
    """The command whose name and description share the rarest words with a sentence."""
    said = _stems(sentence)
    known = {
        name: _stems(f"{name} {tool.description} {SAID.get(name, '')}")
        for name, tool in TOOLS.items()
    }
    counts = Counter(stem for stems in known.values() for stem in stems)

    def shared(name: str) -> float:
        in_name = said & _stems(name)
        return sum(1 / counts[stem] for stem in said & known[name]) + len(in_name)

    best = max(TOOLS, key=shared)
    return short_names()[best] if shared(best) else "help"


SAID = {
    "start_search": "find optimise tune train launch cell architecture",
    "status": "going progress doing far along",
    "best": "result winner winning top",
    "stop": "cancel abort kill",
    "explain": "mattered important why pruned",
}
"""Words that people use for a tool besides its own."""

EMPTY = re.compile(
    r"\b(the|and|for|are|was|has|can|now|how|what|which|that|this|there|with|good)\b"
)
"""Words that name no command."""


def _stems(text: str) -> set[str]:
    words = EMPTY.sub(" ", text.lower().replace("_", " "))
    return {word[:5] for word in re.findall(r"[a-z]{3,}", words)}


def about(schema: Mapping[str, Any]) -> str:
    """What a person is told of an argument."""
    texts = [schema.get("description", "")]
    texts += [option.get("description", "") for option in schema.get("anyOf", [])]
    return next((text for text in texts if text), "")
