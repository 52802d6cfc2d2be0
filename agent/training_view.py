"""A ranker's training as it happens, on the terminal or line by line."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

if TYPE_CHECKING:
    from lm_searcher.tools.rankers.incontext.train import Moment

LINE_EVERY = 30.0
"""Seconds between two lines where there is no terminal."""


class TrainingView:
    """Follows a training: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.told = -LINE_EVERY
        # No thread of its own: the training forks its workers.
        self.progress = Progress(
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            console=console,
            auto_refresh=False,
        )
        self.task: TaskID | None = None

    def __call__(self, moment: Moment) -> None:
        """Show a moment; one with held-out figures always gets a line."""
        if moment.regret is not None:
            self._print(held_out_line(moment))
        if self.console.is_terminal:
            self._draw(moment)
        elif time.monotonic() - self.told > LINE_EVERY or not moment.left:
            self._print(line(moment))
            self.told = time.monotonic()

    def _draw(self, moment: Moment) -> None:
        if self.task is None:
            self.task = self.progress.add_task("", total=None)
            self.progress.start()
        total = moment.seconds + moment.left
        self.progress.update(
            self.task, total=total, completed=moment.seconds, description=line(moment)
        )
        self.progress.refresh()

    def _print(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, highlight=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.task is not None:
            self.progress.stop()


def line(moment: Moment) -> str:
    """Where a training stands, in one line."""
    loss = "-" if moment.loss is None else f"{moment.loss:.3f}"
    pace = moment.step / moment.seconds if moment.seconds else 0.0
    return (
        f"step {moment.step:,}, {moment.tasks:,} tasks, loss {loss}, {pace:.1f} steps/s, "
        f"{span(moment.left)} left"
    )


def held_out_line(moment: Moment) -> str:
    """The held-out figures, in one line."""
    regret = moment.regret or {}
    return (
        f"held-out pick regret at step {moment.step:,}: {regret['all']:.3f} by chance of being "
        f"the best, {regret['worth all']:.3f} by worth"
    )


def span(seconds: float) -> str:
    """A time as one says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
