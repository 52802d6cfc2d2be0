from __future__ import annotations

import json
from typing import Any

import pytest

from lm_searcher.agent.toolbox.registry import READING, TOOLS, call, question
from lm_searcher.agent.toolbox.workspace import Workspace

ASKED = """list_spaces describe_space define_space list_evaluators start_search status wait pause
resume stop best explain rank_ncode evaluate_ncode override_next prune_option restore_option
compare_runs report"""


def test_the_tools_are_those_of_the_documentation() -> None:
    assert list(TOOLS) == ASKED.split()
    assert set(READING) < set(TOOLS)


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_says_what_it_is_and_takes(name: str) -> None:
    tool = TOOLS[name]
    assert tool.name == name
    assert len(tool.description) > 40
    json.dumps(tool.schema)
    assert tool.schema["type"] == "object"
    assert tool.schema["additionalProperties"] is False
    assert tool.function.__doc__


@pytest.mark.parametrize("name", TOOLS)
def test_a_mistake_is_a_result_and_never_a_question(workspace: Workspace, name: str) -> None:
    arguments = {"surprise": 1}
    assert question(workspace, name, arguments) is None
    result = call(workspace, name, arguments)
    assert result.error
    assert (
        f"{name}: " in result.text() and "unknown argument 'surprise' (accepted: " in result.text()
    )
    assert "Traceback" not in result.text()


def test_an_unknown_tool(workspace: Workspace) -> None:
    result = call(workspace, "run_shell", {"command": "env"})
    assert result.error and "unknown tool 'run_shell'" in result.summary
    assert "list_spaces" in result.summary


NO_RUN: list[tuple[str, dict[str, Any]]] = [
    ("status", {}),
    ("best", {}),
    ("stop", {}),
    ("resume", {}),
    ("evaluate_ncode", {"ncode": "0"}),
    ("prune_option", {"position": "a", "choice": 1}),
]


@pytest.mark.parametrize(("name", "arguments"), NO_RUN)
def test_without_a_run(workspace: Workspace, name: str, arguments: dict[str, Any]) -> None:
    assert question(workspace, name, arguments) is None
    assert (
        "there is no run yet; begin one with start_search"
        in call(workspace, name, arguments).summary
    )
