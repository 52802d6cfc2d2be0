"""Prints the events of a chat turn as they arrive."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

from lm_searcher.agent.chat import rendering
from lm_searcher.agent.chat.session import Called, Event, Question, Returned, Said


class TurnView:
    """Prints answers, tool calls and the summaries of their results."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.silent = True
        """Whether no event has arrived yet."""
        self._answer = Answer(console)

    def __call__(self, event: Event) -> None:
        self.silent = False
        if isinstance(event, Said):
            self._answer.add(event.text)
            return
        self._answer.close()
        if isinstance(event, Called):
            rendering.say(self.console, rendering.called(event.tool, event.arguments), "cyan")
        elif isinstance(event, Returned):
            summary = event.text.partition("\n")[0]
            rendering.say(self.console, f"  {summary}", "red" if event.error else "dim")
        else:
            assert isinstance(event, Question)  # asked by the caller of the turn

    def close(self) -> None:
        """Print what is left; the turn has ended or was stopped."""
        self._answer.close()


@contextlib.contextmanager
def turn_view(console: Console) -> Iterator[TurnView]:
    """A TurnView that is closed at the end of the context."""
    view = TurnView(console)
    try:
        yield view
    finally:
        view.close()


class Answer:
    """Prints an answer as it streams in: as Markdown on a terminal, paragraph by paragraph."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._pending = ""
        self._live: Live | None = None
        self._started = False

    def add(self, text: str) -> None:
        """Print the next piece."""
        text = rendering.clean(text)
        self._started = True
        if not self.console.is_terminal:
            self.console.print(text, end="", soft_wrap=True, highlight=False)
            return
        self._pending += text
        done, gap, rest = self._pending.rpartition("\n\n")
        if gap and self._pending.count("```") % 2 == 0:  # keep a block of code whole
            self._end_live()
            self.console.print(Markdown(done))
            self.console.print()
            self._pending = rest
        if self._live is None:
            self._live = Live(console=self.console, transient=True, refresh_per_second=8)
            self._live.start()
        self._live.update(Markdown(self._pending))

    def close(self) -> None:
        """Print what is left; the answer has ended or was stopped."""
        self._end_live()
        if self._pending.strip():
            self.console.print(Markdown(self._pending))
        elif self._started and not self.console.is_terminal:
            self.console.print()
        self._pending, self._started = "", False

    def _end_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
