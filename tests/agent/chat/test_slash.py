"""Slash commands, made of the tools' schemas."""

from __future__ import annotations

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from lm_searcher.agent.chat import slash
from lm_searcher.agent.chat.command_search import closest
from lm_searcher.agent.chat.completion import CommandCompleter
from lm_searcher.agent.chat.slash import Command, parse
from lm_searcher.agent.toolbox.registry import TOOLS
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.errors import ChatError


@pytest.mark.parametrize(
    ("line", "tool", "arguments"),
    [
        ("/search nb201 --trials 50", "start_search", {"space": "nb201", "trials": "50"}),
        ("/start --space=nb201 --workers=2", "start_search", {"space": "nb201", "workers": "2"}),
        ("/start-search nb201", "start_search", {"space": "nb201"}),
        ("/search nb201 --space-settings channels=8,cells=1", "start_search",
         {"space": "nb201", "space_settings": {"channels": 8, "cells": 1}}),
        ("/search --table grid.csv --evaluator table", "start_search",
         {"table": "grid.csv", "evaluator": "table"}),
        ("/status", "status", {}),
        ("/stat my-run", "status", {"run": "my-run"}),
        ("/compare a b c", "compare_runs", {"runs": ["a", "b", "c"]}),
        ("/compare a,b", "compare_runs", {"runs": ["a", "b"]}),
        ("/evaluate 0123 r", "evaluate_ncode", {"ncode": "0123", "run": "r"}),
        ("/prune 'edge 1<-0' none --run r", "prune_option",
         {"position": "edge 1<-0", "choice": "none", "run": "r"}),
        ("/prune width 64", "prune_option", {"position": "width", "choice": 64}),
        ("/define s --replace --positions '[{\"name\": \"a\", \"choices\": [1, 2]}]'",
         "define_space",
         {"name": "s", "replace": True, "positions": [{"name": "a", "choices": [1, 2]}]}),
    ],
)  # fmt: skip
def test_lines_are_calls(line: str, tool: str, arguments: dict[str, object]) -> None:
    found = parse(line)
    assert found.name == tool
    given = {k: str(v) if k in ("trials", "workers") else v for k, v in found.arguments.items()}
    assert given == arguments
    if "--space-settings" not in line and "--table" not in line:
        TOOLS[tool].arguments.model_validate(found.arguments)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/serach nb201", "did you mean 'search'"),
        ("/s", "unknown command 's'"),
        ("/status a b", "'b' is too much; usage: /status"),
        ("/search --trails 5", "did you mean '--trials'"),
        ("/search --trials", "--trials wants a value"),
        ("/search --trials 5 --trials 6", "given twice"),
        ("/search 'nb201", "no closing quotation"),
    ],
)
def test_mistakes(line: str, expected: str) -> None:
    with pytest.raises(ChatError, match=expected):
        parse(line)


def test_own_commands_and_an_empty_one() -> None:
    assert parse("/") == Command("help")
    assert parse("/help search") == Command("help", words=("search",))
    assert parse("/quit").name == "quit" and parse("/watch x").words == ("x",)


def test_every_tool_has_a_command_of_its_own() -> None:
    short = slash.short_names()
    assert len(set(short.values())) == len(TOOLS) and not set(short.values()) & set(slash.OWN)
    for name, tool in TOOLS.items():
        assert parse(f"/{short[name]}").name == name == parse(f"/{name}").name
        assert slash.usage(tool).startswith(f"/{short[name]}")


@pytest.mark.parametrize(
    ("sentence", "command"),
    [
        ("how is it going? tell me the status", "status"),
        ("begin a search of forty trials", "search"),
        ("which options mattered, and why?", "explain"),
        ("please compare the two runs", "compare"),
        ("how is it going?", "status"),
        ("find a good digits cell", "search"),
        ("hm", "help"),
    ],
)
def test_the_nearest_command(sentence: str, command: str) -> None:
    assert closest(sentence) == command


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("/sea", {"search"}),
        ("/describe n", {"nb201"}),
        ("/search --tr", {"--trials"}),
        ("/search nb201 --evaluator ", {"train", "table", "python", "lora"}),
        ("/search nb201 --table g", {"grid.csv"}),
        ("/search nb201 --ranker evo", {"evolution"}),
        ("/help expl", {"explain"}),
        ("/nothing x", set()),
        ("a sentence", set()),
    ],
)
def test_completion(workspace: Workspace, typed: str, expected: set[str]) -> None:
    found = CommandCompleter(workspace).get_completions(Document(typed), CompleteEvent())
    assert {completion.text for completion in found} == expected


def test_completion_of_runs(workspace: Workspace) -> None:
    (workspace.folder / "mine").mkdir()
    (workspace.folder / "mine" / "run.toml").touch()
    completer = CommandCompleter(workspace)
    for typed in ("/status m", "/watch m", "/compare mine m", "/best --top 3 m"):
        found = completer.get_completions(Document(typed), CompleteEvent())
        assert [completion.text for completion in found] == ["mine"], typed
