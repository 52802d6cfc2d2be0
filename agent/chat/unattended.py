"""A task without a person: the same graph, bounded, with a transcript."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from lm_searcher.agent.chat.graph import Chat
from lm_searcher.agent.chat.langchain_tools import parts
from lm_searcher.agent.chat.model import ChatModel
from lm_searcher.agent.chat.repl import News
from lm_searcher.agent.chat.session import Event, Session
from lm_searcher.agent.toolbox.run_status import UNDER_WAY, RunStatus, standing
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.errors import ChatError

STARTERS = ("start_search", "resume", "evaluate_ncode")
"""The tools that begin or go on with a run."""
ENDED = "(The program:) The searches have ended. {}. Report to the person who gave the task."


@dataclass
class Task:
    """What was asked, and what came of it."""

    text: str
    workspace: Workspace
    messages: list[AnyMessage] = field(default_factory=list)
    runs: dict[str, RunStatus] = field(default_factory=dict)
    """The searches that were started, and how they stand."""
    error: str = ""
    """Why the conversation broke off."""

    @property
    def finished(self) -> bool:
        """Whether a search was started, and each has finished."""
        return bool(self.runs) and all(s.state == "finished" for s in self.runs.values())

    def to_json(self) -> dict[str, Any]:
        """The transcript."""
        return {
            "task": self.text,
            "finished": self.finished,
            "error": self.error or None,
            "runs": [stand.to_json() for stand in self.runs.values()],
            "messages": [entry for message in self.messages for entry in _entries(message)],
        }


def run_task(
    text: str,
    workspace: Workspace,
    model: ChatModel,
    *,
    yes: bool,
    max_steps: int,
    follow: Callable[[Event], None],
    context: int = 24_000,
) -> Task:
    """Do it: turns of at most `max_steps` replies altogether, each followed by waiting for the
    searches that were started. What a model or a server does wrong is the task's `error`."""
    task = Task(text, workspace)
    news = News(workspace, alone=True)
    said, left = text, max_steps
    messages: list[AnyMessage] = []
    chat = Chat(workspace, model, news.brief, "yes" if yes else "no", True, context=context)
    session = Session(chat, InMemorySaver(), "task")
    while left > 0:
        chat.max_steps = left
        before = len(messages)
        try:
            for event in session.say(said):
                follow(event)
        except ChatError as error:
            task.error = str(error)
        messages = session.messages
        new = messages[before:]
        left -= sum(isinstance(message, AIMessage) for message in new)
        begun = list(_begun(new))
        for name in begun:
            task.runs[name] = _ended(workspace, name)
        if task.error or not begun:
            break
        said = ENDED.format("; ".join(task.runs[name].summary() for name in begun))
    task.messages = messages
    task.runs = {name: standing(s.files) for name, s in task.runs.items()}
    return task


def _begun(messages: list[AnyMessage]) -> Iterator[str]:
    """The runs that these messages began or went on with, each once."""
    names: dict[str, None] = {}
    for message in messages:
        if not isinstance(message, ToolMessage) or message.name not in STARTERS:
            continue
        _, data = parts(message.text)
        if message.status == "success" and isinstance(name := data.get("run"), str):
            names[name] = None
    yield from names


def _ended(workspace: Workspace, name: str) -> RunStatus:
    """The run's standing once it is no longer under way."""
    files = workspace.files_of(name)
    while (stand := standing(files)).state in UNDER_WAY:
        time.sleep(0.3)
    return stand


def _entries(message: AnyMessage) -> Iterator[dict[str, Any]]:
    if isinstance(message, HumanMessage):
        yield {"role": "user", "content": message.text}
    elif isinstance(message, AIMessage):
        calls = [{"id": c["id"], "name": c["name"], "args": c["args"]} for c in message.tool_calls]
        yield {"role": "assistant", "content": message.text, "tool_calls": calls}
    elif isinstance(message, ToolMessage):
        yield {
            "role": "tool",
            "name": message.name,
            "tool_call_id": message.tool_call_id,
            "error": message.status == "error",
            "content": message.text,
        }
