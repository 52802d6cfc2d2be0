"""The server of tools as the official client sees it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult, TextContent
from warm import WarmProcess

from lm_searcher.agent.toolbox.mcp_server import answer
from lm_searcher.agent.toolbox.registry import TOOLS
from lm_searcher.agent.toolbox.workspace import Workspace

TABLE: dict[str, Any] = {"evaluator": "table", "table": "grid.csv", "metric": "acc"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tables = tmp_path / "runs" / "tables"
    tables.mkdir(parents=True)
    rows = [f"{a},{b},{-((a - 2) ** 2) - (b - 3) ** 2}" for a in range(5) for b in range(5)]
    (tables / "grid.csv").write_text("\n".join(["a,b,acc", *rows]) + "\n")
    return tmp_path / "runs"


def command(folder: Path) -> list[str]:
    return ["-m", "lm_searcher.agent", "mcp", "--folder", str(folder), "--max-trials", "12"]


@asynccontextmanager
async def connected(folder: Path) -> AsyncIterator[Client]:
    server = StdioServerParameters(
        command=sys.executable, args=command(folder), env=dict(os.environ)
    )
    async with Client(stdio_client(server)) as client:
        yield client


async def called(client: Client, tool: str, /, **arguments: Any) -> CallToolResult:
    result = await client.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    return result


def text(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


async def session(folder: Path) -> None:
    async with connected(folder) as client:
        listed = (await client.list_tools()).tools
        assert [t.name for t in listed] == list(TOOLS)
        assert all(t.description and t.input_schema["type"] == "object" for t in listed)
        positions = [{"name": "a", "choices": [0, 1, 2, 3, 4]}, {"name": "b", "choices": [7, 8]}]
        await called(client, "define_space", name="mine", positions=positions)
        shown = await called(client, "describe_space", space="mine")
        assert shown.structured_content["size"] == 10
        wrong = await called(client, "start_search", space="mine", ranker="evolutoin", **TABLE)
        assert wrong.is_error and "did you mean 'evolution'?" in text(wrong)

        begun = await called(client, "start_search", ranker="evolution", trials=10, **TABLE)
        assert not begun.is_error
        run = begun.structured_content["run"]
        asked = await called(client, "status", run=run)  # it answers while the search runs
        assert asked.structured_content["state"] in ("starting", "running")
        ended = await called(client, "wait", seconds=200)
        assert ended.structured_content["state"] == "finished"
        best = await called(client, "best", run=run)
        value = best.structured_content["incumbent"]["value"]
        summary, document = text(best).split("\n")
        assert summary.startswith(f"{run}: best acc {value:.4f}")
        assert json.loads(document)["incumbent"]["value"] == value <= 0
        explained = await called(client, "explain", run=run)
        assert {p["position"] for p in explained.structured_content["positions"]} == {"a", "b"}

        beyond = await called(client, "start_search", trials=3, **TABLE)
        assert beyond.is_error
        assert "3 trials, 2 are left of the 12" in text(beyond) and "--max-trials" in text(beyond)
        unknown = await called(client, "read_file", path="/etc/passwd")
        assert unknown.is_error and "unknown tool 'read_file'" in text(unknown)
        late = await called(client, "wait", seconds="soon")
        assert late.is_error and "valid number" in text(late)


@pytest.mark.slow
def test_another_agent_drives_a_search(folder: Path) -> None:
    anyio.run(session, folder)


async def leave(folder: Path) -> None:
    async with connected(folder) as client:
        given = {**TABLE, "ranker": "evolution", "trials": 12, "name": "left"}
        await called(client, "start_search", **given)


@pytest.mark.slow
def test_a_search_outlives_its_client(folder: Path) -> None:
    anyio.run(leave, folder)
    workspace = Workspace(folder)
    result = TOOLS["wait"].function(workspace, TOOLS["wait"].arguments(seconds=200))  # type: ignore[call-arg]
    assert result.data["state"] == "finished"
    assert result.data["trials"] == 12


@pytest.mark.slow
def test_nothing_but_protocol_on_standard_output(
    folder: Path, warm_python: Callable[..., WarmProcess]
) -> None:
    begin = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    messages = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": begin},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {
            "jsonrpc": "2.0",
            "id": 2,
            "method": "tools/call",
            "params": {"name": "list_spaces", "arguments": {}},
        },
    ]
    server = warm_python(*command(folder), imports=["lm_searcher.agent.toolbox.mcp_server"])
    assert server.stdin is not None and server.stdout is not None and server.stderr is not None
    for message in messages:
        server.stdin.write(json.dumps(message) + "\n")
        server.stdin.flush()
    lines = [server.stdout.readline(), server.stdout.readline()]
    server.stdin.close()
    assert server.wait() == 0
    lines += server.stdout.readlines()
    server.stdout.close()
    server.stderr.close()
    replies = [json.loads(line) for line in lines]
    assert [reply["id"] for reply in replies] == [1, 2]
    names = [s["name"] for s in replies[1]["result"]["structuredContent"]["spaces"]]
    assert "nb201" in names


def test_what_needs_a_person_is_refused(folder: Path) -> None:
    workspace = Workspace(folder, budget_trials=5)
    result = answer(workspace, "start_search", {**TABLE, "trials": 6})
    assert result.error
    assert result.summary.startswith("start_search: refused") and "--max-trials" in result.summary
    assert "\n" not in result.summary
    positions = [{"name": "a", "choices": [1, 2]}]
    assert not answer(workspace, "define_space", {"name": "s", "positions": positions}).error
    again = {"name": "s", "positions": positions, "replace": True}
    assert answer(workspace, "define_space", again).error
    assert not (folder / "grid-1").exists()
