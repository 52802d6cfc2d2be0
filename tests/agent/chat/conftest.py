"""A workspace to talk about, models that follow a script, and a server that streams."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from lm_searcher.agent.chat.graph import Chat
from lm_searcher.agent.chat.model import ChatModel
from lm_searcher.agent.chat.session import Session
from lm_searcher.agent.toolbox.workspace import Workspace

Answer = Callable[[Any, socket.socket, dict[str, Any]], None]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Each start of a search is asked for. The table `grid.csv` has the positions a and b."""
    tables = tmp_path / "runs" / "tables"
    tables.mkdir(parents=True)
    rows = [f"{a},{b},{a * 2 - b}" for a, b in itertools.product(range(6), repeat=2)]
    (tables / "grid.csv").write_text("a,b,acc\n" + "\n".join(rows) + "\n")
    return Workspace(tmp_path / "runs", 0)


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Path]:
    """Writes a script: text for a reply, (tool, arguments) for a call, a list for several."""

    def write(*replies: Any) -> Path:
        path = tmp_path / "script.json"
        path.write_text(json.dumps([_entry(reply) for reply in replies]))
        return path

    return write


def _entry(reply: Any) -> dict[str, Any]:
    if isinstance(reply, str):
        return {"content": reply}
    calls = reply if isinstance(reply, list) else [reply]
    return {"tool_calls": [{"name": name, "args": args} for name, args in calls]}


@pytest.fixture
def talk(workspace: Workspace, script: Callable[..., Path]) -> Callable[..., Session]:
    """A session whose model follows a script."""

    def begin(*replies: Any, **settings: Any) -> Session:
        model = ChatModel.open(f"scripted:{script(*replies)}", None, None)
        chat = Chat(workspace, model, lambda: "You help.", **settings)
        return Session(chat, InMemorySaver(), "test")

    return begin


@pytest.fixture
def streams() -> Callable[..., Answer]:
    """An answer that streams these pieces: text, or fragments of tool calls as dicts."""

    def make(*pieces: Any, finish: str | None = "stop", done: bool = True) -> Answer:
        def answer(server: Any, to: socket.socket, request: dict[str, Any]) -> None:
            to.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            for piece in pieces:
                text = isinstance(piece, str)
                delta = {"content": piece} if text else {"tool_calls": [piece]}
                to.sendall(_event({"role": "assistant", **delta}, None))
            if finish is not None:
                to.sendall(_event({}, finish))
            if done:
                to.sendall(b"data: [DONE]\n\n")

        return answer

    return make


def _event(delta: dict[str, Any], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
    }
    return f"data: {json.dumps(chunk)}\n\n".encode()


@pytest.fixture
def fragments() -> Callable[..., list[dict[str, Any]]]:
    """One tool call as a server streams it: its name and id first, its arguments in pieces."""

    def make(index: int, key: str, name: str, arguments: str) -> list[dict[str, Any]]:
        head = {"index": index, "id": key, "type": "function"}
        cut = [arguments[i : i + 7] for i in range(0, len(arguments), 7)]
        first = {**head, "function": {"name": name, "arguments": ""}}
        return [first, *({"index": index, "function": {"arguments": piece}} for piece in cut)]

    return make
