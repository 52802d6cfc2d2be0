"""Events of a turn, printed as they come."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console

from lm_searcher.agent.chat import rendering
from lm_searcher.agent.chat.session import Called, Event, Question, Returned, Said


class Show:
    """Prints answers, calls and what they returned."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.silent = True
        """Whether nothing has come yet."""
        self._answer = rendering.Answer(console)

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
            assert isinstance(event, Question)  # which whoever drives the turn asks

    def close(self) -> None:
        """The turn has ended, or was stopped."""
        self._answer.close()


@contextlib.contextmanager
def showing(console: Console) -> Iterator[Show]:
    """A Show that is closed at the end."""
    show = Show(console)
    try:
        yield show
    finally:
        show.close()
