"""The chat's loop: it opens the session, reads lines until the user leaves, and reports runs."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from langchain_core.messages import AIMessage, HumanMessage
from rich.console import Console

from lm_searcher.agent.chat import rendering
from lm_searcher.agent.chat.app import CONNECT, Conversation
from lm_searcher.agent.chat.completion import CommandCompleter
from lm_searcher.agent.chat.graph import Chat
from lm_searcher.agent.chat.model import ChatModel
from lm_searcher.agent.chat.run_watcher import RunWatcher, running_line
from lm_searcher.agent.chat.session import Session, open_saver, sessions_folder
from lm_searcher.agent.chat.terminal import Lines, Piped, Terminal
from lm_searcher.agent.settings.run_file import NAME
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.prompts import chat as prompt
from lm_searcher.spaces.errors import ChatError


@dataclass
class RunUpdates:
    """Run updates: added to every system prompt, and shown to the user immediately."""

    workspace: Workspace
    alone: bool = False
    """Whether no user is present."""
    ended: list[ToolResult] = field(default_factory=list)
    """The runs that have ended during this chat, the newest last."""

    def system_prompt(self) -> str:
        """The system prompt with the current updates."""
        lines = []
        if now := running_line(self.workspace):
            lines.append(f"Searches under way: {now}.")
        if self.ended:
            lines.append("Ended lately: " + "; ".join(r.summary for r in self.ended[-3:]) + ".")
        return prompt.render("\n".join(lines), self.alone)


def run_chat(
    workspace: Workspace,
    model: ChatModel | None,
    session: str,
    yes: bool,
    console: Console,
    context: int,
) -> None:
    """Run the chat until the user leaves. Raises UserError if the session cannot be opened."""
    if not re.fullmatch(NAME, session):
        raise ChatError(f"--session '{session}'; accepted: letters, digits, '.', '_' and '-'")
    updates = RunUpdates(workspace)
    with open_saver(workspace, session) as saver:
        opened = None
        if model is not None:
            consent: Literal["yes", "ask"] = "yes" if yes else "ask"
            chat = Chat(workspace, model, updates.system_prompt, consent, context=context)
            opened = Session(chat, saver, session)
        watcher = RunWatcher(workspace, lambda result: report(result))
        lines = _lines(workspace, watcher)
        conversation = Conversation(console, lines, workspace, opened, yes)
        waiting: list[ToolResult] = []
        typing = False

        def report(result: ToolResult) -> None:
            updates.ended.append(result)
            if typing or not lines.interactive:
                conversation.announce(result)
            else:  # an answer is being written; announced after it
                waiting.append(result)

        _greet(console, model, opened, session)
        with watcher if lines.interactive else contextlib.nullcontext():
            conversation.open_question()
            while True:
                if not lines.interactive:
                    watcher.look()
                while waiting:
                    conversation.announce(waiting.pop(0))
                try:
                    typing = True
                    line = lines.line()
                except KeyboardInterrupt:
                    rendering.say(console, "Ctrl-D or /quit leaves", "dim")
                    continue
                except EOFError:
                    line = "/quit"
                finally:
                    typing = False
                if not conversation.handle(line) and conversation.may_leave():
                    return


def _lines(workspace: Workspace, watcher: RunWatcher) -> Lines:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return Piped()
    history = sessions_folder(workspace) / "history"
    return Terminal(CommandCompleter(workspace), history, lambda: watcher.line)


def _greet(console: Console, model: ChatModel | None, opened: Session | None, session: str) -> None:
    if model is None:
        words = f"No model is connected: slash commands only, /help lists them. Connect: {CONNECT}"
    else:
        words = f"lm-searcher, talking to {model.title}. /help: commands; Ctrl-D leaves."
    rendering.say(console, words, "dim")
    if opened is None or not (before := list(_spoken(opened))):
        return
    rendering.say(console, f"Session '{session}' goes on. Last:", "dim")
    for who, text in before[-2:]:
        short = text if len(text) <= 600 else text[:600] + " ..."
        rendering.say(console, f"{who} {short}", "dim")


def _spoken(session: Session) -> Iterator[tuple[str, str]]:
    """The messages of the user and the model with their marks, without tool calls."""
    for message in session.messages:
        if isinstance(message, HumanMessage):
            yield ">", message.text
        elif isinstance(message, AIMessage) and message.text.strip():
            yield " ", message.text
