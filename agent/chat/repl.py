"""A chat from its settings to its end."""

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
from lm_searcher.agent.chat.run_watcher import Follower, under_way
from lm_searcher.agent.chat.session import Session, chats, kept
from lm_searcher.agent.chat.terminal import Lines, Piped, Terminal
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.prompts import chat as prompt
from lm_searcher.spaces.errors import ChatError
from lm_searcher.spaces.settings import NAME


@dataclass
class News:
    """What of the runs a model is told with each turn, and a person at once."""

    workspace: Workspace
    alone: bool = False
    ended: list[ToolResult] = field(default_factory=list)
    """In this chat, the newest last."""

    def brief(self) -> str:
        """The system prompt as of now."""
        lines = []
        if now := under_way(self.workspace):
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
    """Talk until the person leaves. Raises UserError for a session that cannot be opened."""
    if not re.fullmatch(NAME, session):
        raise ChatError(f"--session '{session}'; accepted: letters, digits, '.', '_' and '-'")
    news = News(workspace)
    with kept(workspace, session) as saver:
        talk = None
        if model is not None:
            consent: Literal["yes", "ask"] = "yes" if yes else "ask"
            chat = Chat(workspace, model, news.brief, consent, context=context)
            talk = Session(chat, saver, session)
        follower = Follower(workspace, lambda result: tell(result))
        lines = _lines(workspace, follower)
        conversation = Conversation(console, lines, workspace, talk, yes)
        waiting: list[ToolResult] = []
        typing = False

        def tell(result: ToolResult) -> None:
            news.ended.append(result)
            if typing or not lines.interactive:
                conversation.announce(result)
            else:  # an answer is being written: when it has ended
                waiting.append(result)

        _greet(console, model, talk, session)
        with follower if lines.interactive else contextlib.nullcontext():
            conversation.open_question()
            while True:
                if not lines.interactive:
                    follower.look()
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


def _lines(workspace: Workspace, follower: Follower) -> Lines:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return Piped()
    history = chats(workspace) / "history"
    return Terminal(CommandCompleter(workspace), history, lambda: follower.line)


def _greet(console: Console, model: ChatModel | None, talk: Session | None, session: str) -> None:
    if model is None:
        words = f"No model is connected: slash commands only, /help lists them. Connect: {CONNECT}"
    else:
        words = f"lm-searcher, talking to {model.title}. /help: commands; Ctrl-D leaves."
    rendering.say(console, words, "dim")
    if talk is None or not (before := list(_spoken(talk))):
        return
    rendering.say(console, f"Session '{session}' goes on. Last:", "dim")
    for who, text in before[-2:]:
        short = text if len(text) <= 600 else text[:600] + " ..."
        rendering.say(console, f"{who} {short}", "dim")


def _spoken(talk: Session) -> Iterator[tuple[str, str]]:
    """What was said, without the tools."""
    for message in talk.messages:
        if isinstance(message, HumanMessage):
            yield ">", message.text
        elif isinstance(message, AIMessage) and message.text.strip():
            yield " ", message.text
