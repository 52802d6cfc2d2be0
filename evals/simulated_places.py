"""Places on a simulated clock: how long they stand idle while the controller decides.

The controller is the real one. Its work moves the clock on by the processor time that it takes,
which other programs on the machine do not change; while it waits the clock jumps to the next end of
an evaluation. So a thousand GPUs for an hour take as long as the controller's own work.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from pydantic import PrivateAttr

from lm_searcher.tools.executors.protocol import Ended, Event, Site
from lm_searcher.tools.executors.settings import ExecutorSettings
from lm_searcher.tools.protocols import Cancelled, Evaluation, Evaluator, Outcome

Duration = Callable[[int], float]
"""The seconds that a trial takes, by its number."""


def lognormal(mean: float, sigma: float = 0.5, seed: int = 0) -> Duration:
    """Durations of that mean; each depends on the seed and the trial's number alone."""

    def duration(number: int) -> float:
        rng = np.random.default_rng([seed, number])
        return float(rng.lognormal(math.log(mean) - sigma**2 / 2, sigma))

    return duration


@dataclass
class SimulatedPlaces:
    """An Executor of `places` on a simulated clock; evaluations are look-ups."""

    evaluator: Evaluator
    places: int
    duration: Duration
    until: float = math.inf
    """When the simulation ends: `poll` raises Cancelled."""
    now: float = 0.0
    idle: list[tuple[float, float]] = field(default_factory=list)
    """(when, seconds) of each wait of a free place for its next evaluation."""
    decisions: int = 0
    """Times that something had ended, and the controller went to work."""
    _running: list[tuple[float, int, Evaluation, int]] = field(default_factory=list)
    _free: deque[float] = field(default_factory=deque)
    """Since when each free place is free, but those that were never taken."""
    _left: float = field(default_factory=time.process_time)

    def _work(self) -> None:
        """The controller has worked since `poll` returned: as long does the clock go on."""
        here = time.process_time()
        self.now += here - self._left
        self._left = here

    def room(self) -> int:
        """See Executor."""
        return self.places - len(self._running)

    def submit(self, evaluation: Evaluation, attempt: int = 1) -> None:
        """See Executor."""
        self._work()
        if self._free:
            since = self._free.popleft()
            self.idle.append((self.now, self.now - since))
        end = self.now + self.duration(evaluation.key)
        heapq.heappush(self._running, (end, evaluation.key, evaluation, attempt))

    def poll(self, timeout: float) -> list[Event]:
        """See Executor. Never waits: the clock jumps to the next end, if none has come yet."""
        self._work()
        if self.now > self.until:
            raise Cancelled
        if not self._running:
            return []
        self.now = max(self.now, self._running[0][0])
        ended: list[Event] = []
        while self._running and self._running[0][0] <= self.now:
            when, key, evaluation, attempt = heapq.heappop(self._running)
            took = self.duration(key)
            self._free.append(when)
            metrics = self.evaluator.evaluate(evaluation, lambda *_: False)
            ended.append(Ended(key, Outcome(metrics, took), attempt=attempt))
        self.decisions += 1
        self._left = time.process_time()  # the look-ups are no work of the controller
        return ended

    def stop(self, key: int) -> None:
        """See Executor. Nothing reports."""

    def cancel(self, after: float = 0.0) -> None:
        """See Executor. Nothing is waited for."""

    def close(self, keep: bool = False) -> None:
        """See Executor."""
        self._running.clear()

    def idle_share(self, since: float, until: float) -> float:
        """The share of the places' time within an interval in which they stood idle."""
        idle = sum(seconds for when, seconds in self.idle if since < when <= until)
        return idle / (self.places * (until - since))


class SimulatedSettings(ExecutorSettings):
    """Makes executors of simulated places."""

    kind: str | None = "simulated"
    mean: float = 60.0
    """Mean seconds of a trial."""
    rounds: float = 5.0
    """The simulation ends after so many times the mean."""
    _made: list[SimulatedPlaces] = PrivateAttr(default_factory=list)

    @property
    def made(self) -> SimulatedPlaces:
        """The executor that was made last."""
        return self._made[-1]

    def make(self, evaluator: Evaluator, site: Site) -> SimulatedPlaces:
        """See ExecutorSettings."""
        evaluator.prepare()
        until = self.rounds * self.mean
        places = SimulatedPlaces(evaluator, self.workers, lognormal(self.mean), until)
        self._made.append(places)
        return places
