"""One conversation, kept under a name and gone on with at any time."""

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
from lm_searcher.agent.study.storage import BUSY_SECONDS, store_errors
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
    """The model calls a tool."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Returned:
    """What a tool returned, or why it was not run."""

    tool: str
    text: str
    error: bool


@dataclass(frozen=True)
class Question:
    """A person is to answer with `Session.consent` what a call costs."""

    tool: str
    arguments: dict[str, Any]
    question: str


Event = Said | Called | Returned | Question


class Session:
    """Drives the graph for one conversation."""

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
    def asked(self) -> Question | None:
        """The question that is open, as after a crash while it was shown."""
        for entry in self._graph.get_state(self._config).interrupts:
            return _question(entry.value)
        return None

    def say(self, text: str) -> Iterator[Event]:
        """One turn, until the model has ended it or a Question is open. Raises ChatError."""
        yield from self._run(
            {"messages": [HumanMessage(text)], "steps": 0, "question": "", "approved": ""}
        )

    def consent(self, yes: bool) -> Iterator[Event]:
        """The turn goes on, with the person's answer."""
        yield from self._run(Command(resume=yes))

    def _run(self, given: Any) -> Iterator[Event]:
        stream: Any = self._graph.stream(
            given,
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
            if node == "halt":  # what the model says has been streamed
                yield Said(message.text)
            for call in message.tool_calls:
                yield Called(call["name"], call["args"])


def _question(value: dict[str, Any]) -> Question:
    return Question(value["tool"], value["arguments"], value["question"])


@contextlib.contextmanager
def kept(workspace: Workspace, name: str) -> Iterator[SqliteSaver]:
    """The saver of the session of that name, for one process at a time.

    Raises ChatError if another has it, StoreError if its file is no database.
    """
    folder = chats(workspace)
    try:
        lock = file_lock(folder / f"{name}.lock", timeout=0.5)
    except TimeoutError:
        raise ChatError(
            f"session '{name}' is open in another chat; leave that, or choose another --session"
        ) from None
    path = folder / f"{name}.db"
    with lock:
        # Messages, which are on langgraph's list of safe types, and plain data only.
        serde = JsonPlusSerializer(allowed_msgpack_modules=None)
        connection = sqlite3.connect(path, check_same_thread=False, timeout=BUSY_SECONDS)
        with contextlib.closing(connection):
            with store_errors(f"sqlite:///{path}"):
                connection.execute("PRAGMA journal_mode=WAL")
                saver = LatestSaver(connection, serde=serde)
                saver.setup()
            yield saver


def chats(workspace: Workspace) -> Path:
    """Where sessions are kept. Raises ChatError if it cannot be written."""
    folder = workspace.inside(FOLDER)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ChatError(f"'{folder}' cannot be written: {error.strerror}") from None
    return folder
