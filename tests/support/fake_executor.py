"""An executor without processes, on a simulated clock.

What becomes of an evaluation follows from its NCode and seed: its result, and the places that it
loses. How long it takes is drawn, so that the setting `seed` stands for an order of completion;
`order` gives one outright. `kind = "fake"` in the settings, once `known_as_fake` was called.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from pydantic import Field

from lm_searcher.tools.executors.outcome_check import checked_metrics, failure_reason
from lm_searcher.tools.executors.protocol import Began, Ended, Event, Reported, Site
from lm_searcher.tools.executors.settings import EXECUTORS, ExecutorSettings
from lm_searcher.tools.protocols import Cancelled, Evaluation, Evaluator, Outcome


def known_as_fake(patch: pytest.MonkeyPatch) -> None:
    """Add the executor to those that a run file may name."""
    patch.setitem(EXECUTORS.builtin, "fake", f"{__name__}:FakeSettings")


class FakeSettings(ExecutorSettings):
    """[executor] kind = "fake"."""

    kind: str | None = "fake"
    seed: int = 0
    """Of the lengths of evaluations."""
    spread: float = 1.0
    """Lengths are lognormal with this standard deviation of the logarithm; 0: all are 1."""
    losses: float = 0.0
    """The probability that an attempt loses its place."""
    doomed: list[int] = Field(default_factory=list)
    """Keys of evaluations that lose every place."""
    window: float = 0.0
    """The simulated time that one poll covers."""
    unsteady: bool = False
    """Whether places come and go."""
    order: list[list[int]] = Field(default_factory=list)
    """The keys that end with each poll; then as the clock says. No reports, no losses."""
    echo: bool = False
    """Whether each end is told once more, with another result, by the next poll."""

    def make(self, evaluator: Evaluator, site: Site) -> FakeExecutor:
        """See ExecutorSettings."""
        evaluator.prepare()
        MADE.append(FakeExecutor(evaluator, self))
        return MADE[-1]


MADE: list[FakeExecutor] = []
"""Every executor made by settings, the latest last."""


@dataclass
class _Run:
    evaluation: Evaluation
    attempt: int
    place: int
    due: deque[tuple[float, Reported | Ended]]
    """What becomes of it, and when."""
    stopped: bool = False


@dataclass
class FakeExecutor:
    """See the module."""

    evaluator: Evaluator
    settings: FakeSettings
    clock: float = 0.0
    begun: list[tuple[Evaluation, int]] = field(default_factory=list)
    """All that was submitted, with the attempt."""
    ended: list[list[int]] = field(default_factory=list)
    """The keys whose evaluation ended with each poll."""
    _running: dict[int, _Run] = field(default_factory=dict)
    _news: list[Event] = field(default_factory=list)
    _deadline: float = math.inf
    _idle: int = 0

    def __post_init__(self) -> None:
        self._order = deque(map(set, self.settings.order))

    # -- places --------------------------------------------------------------------------------

    def room(self) -> int:
        """See Executor."""
        return max(0, self._places() - len(self._running))

    def _places(self) -> int:
        workers = self.settings.workers
        if not self.settings.unsteady:
            return workers
        return 1 + int(self._draw(int(self.clock)).integers(workers))

    def _draw(self, *parts: int) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, *parts])

    # -- evaluations ---------------------------------------------------------------------------

    def submit(self, evaluation: Evaluation, attempt: int = 1) -> None:
        """See Executor."""
        key = evaluation.key
        assert self.room() and key not in self._running, f"{key} at {list(self._running)}"
        self.begun.append((evaluation, attempt))
        taken = {run.place for run in self._running.values()}
        place = min(set(range(self.settings.workers)) - taken)
        due = deque(self._future(evaluation, attempt))
        self._running[key] = _Run(evaluation, attempt, place, due)
        if self.settings.workers > 1:
            self._news.append(Began(key, f"gpu {place}"))

    def _future(self, evaluation: Evaluation, attempt: int) -> list[tuple[float, Reported | Ended]]:
        """What will become of an evaluation that is begun now, if nobody stops it."""
        key, settings = evaluation.key, self.settings
        same = (int(evaluation.ncode, 36), evaluation.seed)
        length = float(np.exp(settings.spread * self._draw(*same).normal()))
        lost = np.random.default_rng([*same, attempt]).random() < settings.losses
        if lost or key in settings.doomed:
            return [(self.clock + length / 2, Ended(key, None, f"place {attempt} burnt", attempt))]
        curve: list[tuple[int, float]] = []

        def report(step: int, value: float) -> bool:
            curve.append((step, value))
            return False

        outcome = Outcome({}, 0.5)
        try:
            result = self.evaluator.evaluate(evaluation, report)
            metrics = checked_metrics(result, self.evaluator.metric)
            outcome = replace(outcome, metrics=metrics)
        except Exception as error:  # the evaluation boundary
            outcome = replace(outcome, reason=failure_reason(error))
        part = length / (len(curve) + 1)
        events = [Reported(key, step, value) for step, value in curve]
        future = [(self.clock + part * (i + 1), event) for i, event in enumerate(events)]
        return [*future, (self.clock + length, Ended(key, outcome, attempt=attempt))]

    def stop(self, key: int) -> None:
        """See Executor."""
        if key in self._running:
            self._running[key].stopped = True

    def poll(self, timeout: float) -> list[Event]:
        """See Executor."""
        if self.clock >= self._deadline:
            raise Cancelled
        told, self._news = self._news, []
        new = self._played_back() if self._order else self._by_the_clock()
        events, ended = [*told, *new], [event for event in new if isinstance(event, Ended)]
        if ended:
            self.ended.append([event.key for event in ended])
        if self.settings.echo:
            self._news += map(_echo, ended)
        self._idle = 0 if events else self._idle + 1
        assert self._idle < 10, f"waits for {self._order} with {list(self._running)} under way"
        return events

    def _played_back(self) -> list[Event]:
        if not self._order[0] <= self._running.keys():
            return []
        return [self._running.pop(key).due[-1][1] for key in sorted(self._order.popleft())]

    def _by_the_clock(self) -> list[Event]:
        """The next event, and what follows within the window; a report ends it."""
        events: list[Event] = []
        until = math.inf
        while self._running and self._next()[0] <= until:
            now, run = self._next()
            if now > self._deadline:
                self.clock = self._deadline
                if not events:
                    raise Cancelled
                break
            self.clock = max(self.clock, now)
            until = min(until, self.clock + self.settings.window)
            events.append(self._happen(run))
            if isinstance(events[-1], Reported):
                break
        return events

    def _next(self) -> tuple[float, _Run]:
        due = [(self.clock if r.stopped else r.due[0][0], r) for r in self._running.values()]
        return min(due, key=lambda each: (each[0], each[1].evaluation.key))

    def _happen(self, run: _Run) -> Reported | Ended:
        key = run.evaluation.key
        if run.stopped:
            del self._running[key]
            return Ended(key, self._stopped(run), attempt=run.attempt)
        _, event = run.due.popleft()
        if isinstance(event, Reported):
            self._last = event.value
        else:
            del self._running[key]
        return event

    def _stopped(self, run: _Run) -> Outcome:
        """A report was the latest event: its value is the result."""
        return Outcome({self.evaluator.metric: self._last}, 0.5, stopped=True)

    # -- the end -------------------------------------------------------------------------------

    def cancel(self, after: float = 0.0) -> None:
        """See Executor; the seconds are of the simulated clock."""
        self._deadline = min(self._deadline, self.clock + after)

    def close(self, keep: bool = False) -> None:
        """See Executor."""
        self._running.clear()


def _echo(ended: Ended) -> Ended:
    return ended if ended.outcome is None else replace(ended, outcome=Outcome({"value": 99.0}, 9.0))
