"""A conversation that is stored under a name and can be continued at any time."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command

from lm_searcher.agent.chat.graph import Chat, build_chat, recursion_limit
from lm_searcher.agent.study.checkpoints import LatestSaver
from lm_searcher.agent.study.sqlite_files import BUSY_SECONDS
from lm_searcher.agent.study.storage import store_errors
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.errors import ChatError
from lm_searcher.tools.files import file_lock

FOLDER = ".chats"


@dataclass(frozen=True)
class Said:
    """A piece of an answer."""

    text: str


@dataclass(frozen=True)
class Called:
    """A tool call of the model."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Returned:
    """The result of a tool, or why it was not run."""

    tool: str
    text: str
    error: bool


@dataclass(frozen=True)
class Question:
    """A call that the user must confirm; answered by `Session.consent`."""

    tool: str
    arguments: dict[str, Any]
    question: str


Event = Said | Called | Returned | Question


class Session:
    """Runs the chat graph for one conversation."""

    def __init__(self, chat: Chat, saver: BaseCheckpointSaver[Any], name: str) -> None:
        self.chat, self.name = chat, name
        self._graph = build_chat(chat.workspace).compile(checkpointer=saver)
        self._config: RunnableConfig = {
            "configurable": {"thread_id": name},
            "recursion_limit": recursion_limit(chat.max_steps),
        }

    @property
    def messages(self) -> list[AnyMessage]:
        """The conversation so far."""
        values = self._graph.get_state(self._config).values
        return list(values.get("messages", []))

    @property
    def open_question(self) -> Question | None:
        """The question without an answer, as after a crash while it was shown."""
        for entry in self._graph.get_state(self._config).interrupts:
            return _question(entry.value)
        return None

    def say(self, text: str) -> Iterator[Event]:
        """One turn: its events until the model ends it or a Question is open. Raises ChatError."""
        yield from self._run(
            {"messages": [HumanMessage(text)], "steps": 0, "question": "", "approved": ""}
        )

    def consent(self, yes: bool) -> Iterator[Event]:
        """Continue the turn with the user's answer to the open question."""
        yield from self._run(Command(resume=yes))

    def _run(self, graph_input: Any) -> Iterator[Event]:
        stream: Any = self._graph.stream(
            graph_input,
            self._config,
            context=self.chat,
            stream_mode=["messages", "updates"],
            durability="sync",
        )
        with contextlib.closing(stream):
            for mode, value in stream:
                if mode == "messages":
                    chunk, _ = value
                    if isinstance(chunk, AIMessageChunk) and chunk.text:
                        yield Said(chunk.text)
                    continue
                for node, update in value.items():
                    yield from _events(node, update)


def _events(node: str, update: Any) -> Iterator[Event]:
    if node == "__interrupt__":
        yield from (_question(entry.value) for entry in update)
        return
    for message in (update or {}).get("messages", []):
        if isinstance(message, ToolMessage):
            yield Returned(message.name or "", message.text, message.status == "error")
        elif isinstance(message, AIMessage):
            if node == "halt":  # the model's own text was streamed already
                yield Said(message.text)
            for call in message.tool_calls:
                yield Called(call["name"], call["args"])


def _question(value: dict[str, Any]) -> Question:
    return Question(value["tool"], value["arguments"], value["question"])


@contextlib.contextmanager
def open_saver(workspace: Workspace, name: str) -> Iterator[SqliteSaver]:
    """The checkpoint saver of a session, locked for this process.

    Raises ChatError if another process has the session open, StoreError if its file is no
    database.
    """
    folder = sessions_folder(workspace)
    try:
        lock = file_lock(folder / f"{name}.lock", timeout=0.5)
    except TimeoutError:
        raise ChatError(
            f"session '{name}' is open in another chat; close it, or choose another --session"
        ) from None
    path = folder / f"{name}.db"
    with lock:
        # Accepts plain data and messages only, which are on langgraph's list of safe types.
        serde = JsonPlusSerializer(allowed_msgpack_modules=None)
        connection = sqlite3.connect(path, check_same_thread=False, timeout=BUSY_SECONDS)
        with contextlib.closing(connection):
            with store_errors(f"sqlite:///{path}"):
                connection.execute("PRAGMA journal_mode=WAL")
                saver = LatestSaver(connection, serde=serde)
                saver.setup()
            yield saver


def sessions_folder(workspace: Workspace) -> Path:
    """The folder of the stored sessions. Raises ChatError if it cannot be written."""
    folder = workspace.inside(FOLDER)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ChatError(f"'{folder}' cannot be written: {error.strerror}") from None
    return folder
