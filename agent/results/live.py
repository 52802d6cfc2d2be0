"""A run in progress: a panel on a terminal, a line per trial elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lm_searcher.agent.results.front import front_trials
from lm_searcher.agent.results.summary import where_they_run
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.usage import Usage


class LiveView:
    """Observes a search and shows trials done, the incumbent or the front, failures and time left.

    On a terminal one panel is redrawn; elsewhere a line is written per finished trial.
    """

    def __init__(
        self, console: Console, title: str, objectives: ObjectiveSet, budget: int | None
    ) -> None:
        self.console, self.title, self.objectives = console, title, objectives
        self.front: list[Trial] = []
        self.budget = budget
        self.done = self.failed = 0
        self.usage = Usage()
        self._usage_counted: set[int] = set()
        self.best: Trial | None = None
        self.running: dict[int, Trial] = {}
        self.last = ""
        self.resumed = 0
        self.began = time.monotonic()
        self.live = Live(console=console, refresh_per_second=4, get_renderable=self.render)

    def resume(self, trials: Sequence[Trial]) -> None:
        """Count the trials of earlier processes; they do not enter the pace."""
        for trial in trials:
            self._add_usage(trial)
            if trial.state.finished:
                self._count(trial)
        self.resumed, self.began = self.done, time.monotonic()

    def __call__(self, event: Trial | str) -> None:
        """Take up an event: a trial that began, finished or lost its place, or a message. See
        Observer."""
        if isinstance(event, str):
            self.last = event
        elif event.state is TrialState.RUNNING:
            self.running[event.number] = event
            self._add_usage(event)
            return
        elif event.state is TrialState.WAITING:  # it has lost its place, which a message tells
            self.running.pop(event.number, None)
            return
        else:
            self.running.pop(event.number, None)
            self._count(event)
            self.last = self._line(event)
        if not self.console.is_terminal:
            self.console.print(self.last, highlight=False, markup=False, soft_wrap=True)

    def _add_usage(self, trial: Trial) -> None:
        if trial.usage is not None and trial.number not in self._usage_counted:
            self._usage_counted.add(trial.number)
            self.usage += trial.usage

    def _count(self, trial: Trial) -> None:
        self.done += 1
        self.failed += trial.state is TrialState.FAIL
        if trial.state is not TrialState.COMPLETE or trial.value is None or trial.violation > 0:
            return
        if self.best is None or self.objectives.row(trial)[0] > self.objectives.row(self.best)[0]:
            self.best = trial
        if self.objectives.several:
            self.front = front_trials([*self.front, trial], self.objectives)

    def _line(self, trial: Trial) -> str:
        total = f"/{self.budget}" if self.budget else ""
        head = f"[{self.done}{total}] trial {trial.number}  {trial.ncode}"
        outcome = f"failed: {trial.reason}" if trial.reason else self._measured(trial)
        if trial.state is TrialState.PRUNED:
            outcome += f" (stopped early, after report {len(trial.curve)})"
        if trial.violation > 0:
            outcome += " (breaks a constraint)"
        best = f", best {self.best.value:.4f}" if self.best else ""
        if self.objectives.several:
            best = f", front of {len(self.front)}"
        usage = trial.usage
        by = f"  (picked by the fallback: {usage.reason})" if usage and usage.reason else ""
        return f"{head}  {outcome}{best}{by}"

    def _measured(self, trial: Trial) -> str:
        if not self.objectives.several:
            return f"{self.objectives.metric} {trial.value:.4f}"
        goals = zip(self.objectives.goals, trial.values, strict=True)
        return ", ".join(f"{goal.metric} {value:.4f}" for goal, value in goals)

    def left(self) -> str:
        """The time left at the pace of this process; "-" before a trial has finished."""
        fresh = self.done - self.resumed
        if not self.budget or not fresh:
            return "-"
        pace = (time.monotonic() - self.began) / fresh
        return clock(pace * max(0, self.budget - self.done))

    def render(self) -> Panel:
        """The current panel."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold")
        total = f" of {self.budget}" if self.budget else ""
        table.add_row("trials", f"{self.done}{total}")
        if self.budget:
            table.add_row("", ProgressBar(total=self.budget, completed=self.done, width=50))
        name = "incumbent"
        if self.objectives.several:
            table.add_row("front", f"{len(self.front)} architectures")
            name = f"best {self.objectives.metric}"
        best = "-"
        if self.best is not None:
            best = f"{self.best.ncode}  {self._measured(self.best)}  (trial {self.best.number})"
        table.add_row(name, best)
        table.add_row("running", Text(where_they_run(self.running.values()) or "-"))
        failures = Text(str(self.failed), style="red" if self.failed else "")
        table.add_row("failures", failures)
        if self.usage.decisions:
            table.add_row("model", Text(str(self.usage), overflow="fold"))
        elapsed = clock(time.monotonic() - self.began)
        table.add_row("time", f"{elapsed} gone, {self.left()} left")
        return Panel(Group(table, Text(self.last, style="dim")), title=self.title)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.live.stop()


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
