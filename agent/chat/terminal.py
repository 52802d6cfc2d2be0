"""The source of a user's lines: a terminal with completion and history, or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.formatted_text import ANSI
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout

from lm_searcher.agent.chat.completion import CommandCompleter

PROMPT = "\x1b[1;36m>\x1b[0m "
YES = {"y": True, "yes": True, "n": False, "no": False, "": False}


class Lines(Protocol):
    """A source of a user's lines."""

    interactive: bool
    """Whether a user is present."""

    def line(self) -> str:
        """The next line. Raises EOFError at the end, KeyboardInterrupt for Ctrl-C."""
        ...

    def yes(self, question: str) -> bool:
        """The user's answer; no answer counts as no."""
        ...

    def choice(self, question: str) -> str:
        """A short answer, in lower case; empty for none."""
        ...


class Piped:
    """The lines of standard input, from a pipe or a file."""

    interactive = False

    def line(self) -> str:
        """See Lines. After a backslash at its end a line continues on the next."""
        found = ""
        for line in sys.stdin:
            found += line.rstrip("\n")
            if not found.endswith("\\"):
                return found
            found = found[:-1] + "\n"
        if found:
            return found
        raise EOFError

    def yes(self, question: str) -> bool:
        """See Lines: the next line is the answer."""
        print(f"{question} [y/N]", flush=True)
        try:
            return YES.get(self.line().strip().lower(), False)
        except EOFError:
            return False

    def choice(self, question: str) -> str:
        """See Lines: always empty, because no user is present."""
        return ""


class Terminal:
    """A prompt with history, completion, multi-line input, and the running searches below."""

    interactive = True

    def __init__(self, completer: CommandCompleter, history: Path, foot: Callable[[], str]) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=FileHistory(str(private(history))),
            completer=completer,
            complete_while_typing=True,
            auto_suggest=AutoSuggestFromHistory(),
            multiline=True,
            key_bindings=_keys(),
            prompt_continuation="  ",
            bottom_toolbar=lambda: foot() or None,
            refresh_interval=1.0,
            reserve_space_for_menu=6,
        )
        self._asking: PromptSession[str] = PromptSession()

    def line(self) -> str:
        """See Lines."""
        with patch_stdout(raw=True):
            return self._session.prompt(ANSI(PROMPT))

    def yes(self, question: str) -> bool:
        """See Lines."""
        while (answer := self.choice(f"{question} [y/N] ")) not in YES:
            pass
        return YES[answer]

    def choice(self, question: str) -> str:
        """See Lines. Ctrl-C and Ctrl-D count as no answer."""
        with patch_stdout(raw=True):
            try:
                return self._asking.prompt(question).strip().lower()
            except (EOFError, KeyboardInterrupt):
                return ""


def _keys() -> KeyBindings:
    """Enter sends, except after a backslash; Alt-Enter starts a new line."""
    keys = KeyBindings()

    @keys.add("enter")
    def enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def private(path: Path) -> Path:
    """Create the file if needed, and make it readable by its owner only."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    return path
