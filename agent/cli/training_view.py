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
    """Follows a training: a bar on a terminal, elsewhere a line now and then.

    `line` puts a moment in words, `news` its held-out figures, if they have just been measured.
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

    def __call__(self, moment: PretrainingProgress | FinetuningProgress) -> None:
        """Show a moment; one with held-out figures always gets a line."""
        if news := self.news(moment):
            self._print(news)
        if self.console.is_terminal:
            self._draw(moment)
        elif time.monotonic() - self.told > LINE_EVERY or not moment.left:
            self._print(self.line(moment))
            self.told = time.monotonic()

    def _draw(self, moment: PretrainingProgress | FinetuningProgress) -> None:
        if self.task is None:
            self.task = self.progress.add_task("", total=None)
            self.progress.start()
        total = moment.seconds + moment.left
        self.progress.update(
            self.task, total=total, completed=moment.seconds, description=self.line(moment)
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


def incontext_line(moment: PretrainingProgress) -> str:
    """Where a training stands, in one line."""
    loss = "-" if moment.loss is None else f"{moment.loss:.3f}"
    pace = moment.step / moment.seconds if moment.seconds else 0.0
    return (
        f"step {moment.step:,}, {moment.tasks:,} tasks, loss {loss}, {pace:.1f} steps/s, "
        f"{span(moment.left)} left"
    )


def incontext_news(moment: PretrainingProgress) -> str | None:
    """The held-out figures, in one line."""
    if moment.regret is None:
        return None
    return (
        f"held-out pick regret at step {moment.step:,}: {moment.regret['all']:.3f} by the best "
        f"head, {moment.regret['value all']:.3f} by the value head"
    )


def lm_line(moment: FinetuningProgress) -> str:
    """Where the training of a language model stands, in one line."""
    loss = "" if moment.loss is None else f", loss {moment.loss:.3f}"
    pace = moment.seconds / moment.step if moment.step else 0.0
    return (
        f"step {moment.step:,} of {moment.steps:,}{loss}, {pace:.2f} s a step, "
        f"{span(moment.left)} left"
    )


def lm_news(moment: FinetuningProgress) -> str | None:
    """The held-out figures, in one line."""
    if (figures := moment.figures) is None:
        return None
    return (
        f"held-out at step {moment.step:,}: best candidate picked {figures.accuracy:.3f}, beats "
        f"{figures.percentile:.3f} of the others (0.5 is chance), regret {figures.regret:.3f}"
    )


def span(seconds: float) -> str:
    """A time as one says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
