"""The tools as a Model Context Protocol server on standard input and output."""

from __future__ import annotations

import importlib.metadata
import signal
import time
from collections.abc import Mapping
from typing import Any

import anyio
from anyio import to_thread
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)

from lm_searcher.agent.toolbox.registry import READING, TOOLS, call, question
from lm_searcher.agent.toolbox.result import ToolResult, failure
from lm_searcher.agent.toolbox.run_status import UNDER_WAY
from lm_searcher.agent.toolbox.workspace import Workspace

INSTRUCTIONS = """Search for good architectures with few trainings. Usual order: list_spaces, \
list_evaluators, start_search, wait until the run is finished, then best, explain, report. \
Searches continue after the conversation. An error message says what to correct."""

SLICE = 0.5
"""Seconds that `wait` holds the lock at a time."""


def build_server(workspace: Workspace) -> Server[Any]:
    """A server of the tools in one workspace. Calls run one at a time; `wait` lets others in."""
    turn = anyio.Lock()

    async def list_tools(
        context: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        return ListToolsResult(tools=described())

    async def call_tool(
        context: ServerRequestContext[Any], params: CallToolRequestParams
    ) -> CallToolResult:
        arguments = params.arguments or {}
        if params.name == "wait":
            result = await _wait(workspace, arguments, turn)
        else:
            async with turn:
                result = await to_thread.run_sync(answer, workspace, params.name, arguments)
        return CallToolResult(
            content=[TextContent(text=result.text())],
            structured_content=dict(result.data) | {"summary": result.summary},
            is_error=result.error,
        )

    return Server(
        "lm-searcher",
        version=importlib.metadata.version("lm-searcher"),
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def described() -> list[Tool]:
    """The tools in the protocol's form."""
    return [
        Tool(
            name=tool.name,
            description=tool.description,
            input_schema=tool.schema,
            annotations=ToolAnnotations(
                read_only_hint=tool.name in READING,
                destructive_hint=tool.name == "stop",
                open_world_hint=False,
            ),
        )
        for tool in TOOLS.values()
    ]


def answer(workspace: Workspace, name: str, arguments: Mapping[str, Any]) -> ToolResult:
    """The tool's result. A call that needs a confirmation is refused: no user can be asked here.

    `stop` is allowed: it is marked as destructive, so that clients ask their user.
    """
    asked = question(workspace, name, arguments)
    if asked is None or name == "stop":
        return call(workspace, name, arguments)
    return failure(
        f"{name}: refused, since a user must confirm it: {asked.splitlines()[0]} "
        "Use fewer trials, or ask the user to start the server with a larger --max-trials, "
        "or to use lm-searcher chat."
    )


async def _wait(workspace: Workspace, arguments: Mapping[str, Any], turn: anyio.Lock) -> ToolResult:
    """The tool `wait` in slices, so that other calls run between and a lost client is noticed."""
    begin = time.monotonic()
    while True:
        slice_ = dict(arguments)
        try:
            left = float(arguments.get("seconds", 30.0)) - (time.monotonic() - begin)
            slice_["seconds"] = max(0.01, min(left, SLICE))
        except (TypeError, ValueError):
            left = 0.0  # the tool reports the bad value
        async with turn:
            result = await to_thread.run_sync(call, workspace, "wait", slice_)
        if result.error or left <= SLICE or result.data.get("state") not in UNDER_WAY:
            return result
        await anyio.sleep(0.05)


def serve(workspace: Workspace) -> None:
    """Serve until the client disconnects. Standard output carries the protocol only."""

    async def main() -> None:
        server = build_server(workspace)
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    # End at once on Ctrl-C: the thread that reads from the client cannot be interrupted, and
    # searches run in processes of their own.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    anyio.run(main)
