"""A ranker's training as it happens, on the terminal or line by line."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

if TYPE_CHECKING:
    from lm_searcher.tools.rankers.incontext.pretraining.training_run import PretrainingProgress
    from lm_searcher.tools.rankers.lm.finetuning.progress import FinetuningProgress

LINE_EVERY = 30.0
"""Seconds between two lines where there is no terminal."""


class TrainingView:
    """Shows a training: a bar on a terminal, elsewhere a line every half minute.

    `line` describes the progress in one line; `news` the held-out figures, if they have just been
    measured.
    """

    def __init__(
        self,
        console: Console,
        line: Callable[[Any], str] | None = None,
        news: Callable[[Any], str | None] | None = None,
    ) -> None:
        self.console = console
        self.line: Callable[[Any], str] = line or incontext_line
        self.news: Callable[[Any], str | None] = news or incontext_news
        self.last_line = -LINE_EVERY
        # No thread of its own: the training forks its workers.
        self.progress = Progress(
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            console=console,
            auto_refresh=False,
        )
        self.task: TaskID | None = None

    def __call__(self, reached: PretrainingProgress | FinetuningProgress) -> None:
        """Show the progress; new held-out figures always get a line."""
        if news := self.news(reached):
            self._print(news)
        if self.console.is_terminal:
            self._draw(reached)
        elif time.monotonic() - self.last_line > LINE_EVERY or not reached.left:
            self._print(self.line(reached))
            self.last_line = time.monotonic()

    def _draw(self, reached: PretrainingProgress | FinetuningProgress) -> None:
        if self.task is None:
            self.task = self.progress.add_task("", total=None)
            self.progress.start()
        total = reached.seconds + reached.left
        self.progress.update(
            self.task, total=total, completed=reached.seconds, description=self.line(reached)
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


def incontext_line(reached: PretrainingProgress) -> str:
    """The progress of a training in one line."""
    loss = "-" if reached.loss is None else f"{reached.loss:.3f}"
    pace = reached.step / reached.seconds if reached.seconds else 0.0
    return (
        f"step {reached.step:,}, {reached.tasks:,} tasks, loss {loss}, {pace:.1f} steps/s, "
        f"{span(reached.left)} left"
    )


def incontext_news(reached: PretrainingProgress) -> str | None:
    """The latest held-out figures in one line; None without new ones."""
    if reached.regret is None:
        return None
    return (
        f"held-out pick regret at step {reached.step:,}: {reached.regret['all']:.3f} by the best "
        f"head, {reached.regret['value all']:.3f} by the value head"
    )


def lm_line(reached: FinetuningProgress) -> str:
    """The progress of a language model's training in one line."""
    loss = "" if reached.loss is None else f", loss {reached.loss:.3f}"
    pace = reached.seconds / reached.step if reached.step else 0.0
    return (
        f"step {reached.step:,} of {reached.steps:,}{loss}, {pace:.2f} s a step, "
        f"{span(reached.left)} left"
    )


def lm_news(reached: FinetuningProgress) -> str | None:
    """The latest held-out figures in one line; None without new ones."""
    if (figures := reached.figures) is None:
        return None
    return (
        f"held-out at step {reached.step:,}: best candidate picked {figures.accuracy:.3f}, beats "
        f"{figures.percentile:.3f} of the others (0.5 is chance), regret {figures.regret:.3f}"
    )


def span(seconds: float) -> str:
    """A time in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
