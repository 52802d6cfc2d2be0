"""A task without a person: `lm-searcher agent`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from warm import WarmProcess

from lm_searcher.agent.chat.graph import NOT_ALLOWED
from lm_searcher.agent.chat.model import ChatModel
from lm_searcher.agent.chat.unattended import run_task
from lm_searcher.agent.toolbox.workspace import Workspace

SEARCH = ("start_search", {"evaluator": "table", "table": "grid.csv", "metric": "acc", "trials": 9})
Agent = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def agent(
    workspace: Workspace, script: Callable[..., Path], warm_python: Callable[..., WarmProcess]
) -> Agent:
    """Runs the command on a script; its exit code, transcript and errors."""

    def run(replies: list[Any], *words: str) -> tuple[int, dict[str, Any], str]:
        command = ["-m", "lm_searcher.agent", "agent", "find the best", "--json"]
        command += ["--model", f"scripted:{script(*replies)}", "--folder", str(workspace.folder)]
        process = warm_python(*command, *words, imports=["lm_searcher.agent.chat.unattended"])
        out, err = process.communicate()
        return process.wait(), json.loads(out), err

    return run


@pytest.mark.slow
def test_a_search_from_beginning_to_end(agent: Agent) -> None:
    code, document, err = agent([SEARCH, "It runs.", ("best", {}), "Found it."], "--yes")
    assert (code, err) == (0, "") and document["finished"]
    [run] = document["runs"]
    assert (run["run"], run["state"], run["trials"]) == ("grid-1", "finished", 9)
    roles = [m["role"] for m in document["messages"]]
    assert roles == [
        *["user", "assistant", "tool", "assistant"],
        *["user", "assistant", "tool", "assistant"],
    ]
    told = document["messages"][4]["content"]
    assert "The searches have ended. grid-1 is finished: 9 of 9 trials" in told
    assert document["messages"][1]["tool_calls"][0]["name"] == "start_search"
    assert document["messages"][6]["content"].startswith("grid-1: best acc ")


@pytest.mark.slow
def test_a_search_that_its_hours_end_has_finished(agent: Agent) -> None:
    """The exit code is 0: the budget in hours is an end as good as that in trials."""
    hours = ("start_search", SEARCH[1] | {"trials": 30, "hours": 1e-6})
    code, document, err = agent([hours, "It runs.", "It has ended."], "--yes")
    assert (code, err) == (0, "") and document["finished"]
    [run] = document["runs"]
    assert run["state"] == "finished" and run["trials"] < 30


def test_without_yes_nothing_that_costs_is_done(agent: Agent, workspace: Workspace) -> None:
    code, document, _ = agent([SEARCH, "I may not."])
    assert code == 1 and not document["finished"] and not workspace.names()
    result = document["messages"][2]
    assert result["error"] and result["content"] == NOT_ALLOWED
    assert document["messages"][3]["content"] == "I may not."


@pytest.fixture
def task(workspace: Workspace, script: Callable[..., Path]) -> Callable[..., Any]:
    """The same in this process."""

    def run(*replies: Any, **settings: Any) -> Any:
        model = ChatModel.open(f"scripted:{script(*replies)}", None, None)
        given = {"yes": True, "max_steps": 10, "observe": lambda event: None} | settings
        return run_task("go", workspace, model, **given)

    return run


def test_trials_beyond_the_limit(task: Callable[..., Any], workspace: Workspace) -> None:
    workspace.budget_trials = 8
    done = task(SEARCH, "Too much.")
    assert "beyond the budget" in done.messages[2].text and not workspace.names()
    assert not done.finished and not done.error


def test_steps_beyond_the_limit(task: Callable[..., Any]) -> None:
    done = task(*[("list_spaces", {})] * 50, max_steps=4)
    assert sum(entry["role"] == "tool" for entry in done.to_json()["messages"]) == 4
    assert "Stopped after 4 replies" in done.messages[-1].text and not done.finished


def test_a_task_without_a_search_has_not_finished_one(task: Callable[..., Any]) -> None:
    done = task("Nothing to do.")
    assert not done.finished and len(done.messages) == 2


def test_a_server_that_fails(loopback: Any, streams: Any, workspace: Workspace) -> None:
    loopback.answers["gone"] = lambda server, to, request: to.sendall(
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
    )
    loopback.script = iter(["gone"])
    model = ChatModel.open("m", loopback.url, None)
    done = run_task("go", workspace, model, yes=True, max_steps=3, observe=lambda event: None)
    assert "refuses the key" in done.error and done.to_json()["error"] == done.error
