"""A task without a user: the graph of the chat with a limit of replies, and a transcript."""

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
from lm_searcher.agent.chat.repl import RunUpdates
from lm_searcher.agent.chat.session import Event, Session
from lm_searcher.agent.toolbox.run_status import UNDER_WAY, RunStatus, read_status
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.errors import ChatError

STARTERS = ("start_search", "resume", "evaluate_ncode")
"""The tools that start or resume a run."""
ENDED = "(The program:) The searches have ended. {}. Report to the user who gave the task."


@dataclass
class Task:
    """A task and its outcome."""

    text: str
    workspace: Workspace
    messages: list[AnyMessage] = field(default_factory=list)
    runs: dict[str, RunStatus] = field(default_factory=dict)
    """The status of each run that was started, by name."""
    error: str = ""
    """Why the conversation was aborted; empty if it was not."""

    @property
    def finished(self) -> bool:
        """Whether at least one run was started, and all of them are finished."""
        return bool(self.runs) and all(s.state == "finished" for s in self.runs.values())

    def to_json(self) -> dict[str, Any]:
        """The transcript."""
        return {
            "task": self.text,
            "finished": self.finished,
            "error": self.error or None,
            "runs": [status.to_json() for status in self.runs.values()],
            "messages": [entry for message in self.messages for entry in _entries(message)],
        }


def run_task(
    text: str,
    workspace: Workspace,
    model: ChatModel,
    *,
    yes: bool,
    max_steps: int,
    observe: Callable[[Event], None],
    context: int = 24_000,
) -> Task:
    """Let the model do the task, in at most `max_steps` replies over all turns.

    After each turn the runs that it started are awaited; the next turn reports their end. A
    failure of the model or its server is the task's `error`. `observe` is called with each event.
    """
    task = Task(text, workspace)
    updates = RunUpdates(workspace, alone=True)
    prompt, left = text, max_steps
    messages: list[AnyMessage] = []
    chat = Chat(
        workspace, model, updates.system_prompt, "yes" if yes else "no", True, context=context
    )
    session = Session(chat, InMemorySaver(), "task")
    while left > 0:
        chat.max_steps = left
        before = len(messages)
        try:
            for event in session.say(prompt):
                observe(event)
        except ChatError as error:
            task.error = str(error)
        messages = session.messages
        new = messages[before:]
        left -= sum(isinstance(message, AIMessage) for message in new)
        started = list(_started(new))
        for name in started:
            task.runs[name] = _await_end(workspace, name)
        if task.error or not started:
            break
        prompt = ENDED.format("; ".join(task.runs[name].summary() for name in started))
    task.messages = messages
    task.runs = {name: read_status(s.files) for name, s in task.runs.items()}
    return task


def _started(messages: list[AnyMessage]) -> Iterator[str]:
    """The names of the runs that these messages started or resumed, each once."""
    names: dict[str, None] = {}
    for message in messages:
        if not isinstance(message, ToolMessage) or message.name not in STARTERS:
            continue
        _, data = parts(message.text)
        if message.status == "success" and isinstance(name := data.get("run"), str):
            names[name] = None
    yield from names


def _await_end(workspace: Workspace, name: str) -> RunStatus:
    """The run's status once it is no longer under way."""
    files = workspace.files_of(name)
    while (status := read_status(files)).state in UNDER_WAY:
        time.sleep(0.3)
    return status


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
