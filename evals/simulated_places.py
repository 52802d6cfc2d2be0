"""Places on a simulated clock: how long they stand idle while the controller decides.

The controller is the real one. While it works the clock goes at the real pace; while it waits the
clock jumps to the next end of an evaluation. So a thousand GPUs for an hour take as long as the
controller's own work.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lm_searcher.tools.evaluators.table import TableEvaluator
from lm_searcher.tools.executors.protocol import Ended, Event, Site
from lm_searcher.tools.executors.settings import ExecutorSettings
from lm_searcher.tools.protocols import Evaluation, Evaluator, Outcome

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
    now: float = 0.0
    busy: float = 0.0
    """Seconds of work of all places, of evaluations that have ended."""
    decisions: int = 0
    """Times that the controller was waited for with a free place."""
    _running: list[tuple[float, int, Evaluation, int]] = field(default_factory=list)
    _left: float = field(default_factory=time.perf_counter)

    def _work(self) -> None:
        """The controller has worked since `poll` returned: as long on the simulated clock."""
        here = time.perf_counter()
        self.now += here - self._left
        self._left = here

    def room(self) -> int:
        """See Executor."""
        return self.places - len(self._running)

    def submit(self, evaluation: Evaluation, attempt: int = 1) -> None:
        """See Executor."""
        self._work()
        end = self.now + self.duration(evaluation.key)
        heapq.heappush(self._running, (end, evaluation.key, evaluation, attempt))

    def poll(self, timeout: float) -> list[Event]:
        """See Executor. Never waits: the clock jumps to the next end, if none has come yet."""
        self._work()
        if not self._running:
            return []
        self.now = max(self.now, self._running[0][0])
        ended: list[Event] = []
        while self._running and self._running[0][0] <= self.now:
            _, key, evaluation, attempt = heapq.heappop(self._running)
            took = self.duration(key)
            self.busy += took
            metrics = self.evaluator.evaluate(evaluation, lambda *_: False)
            ended.append(Ended(key, Outcome(metrics, took), attempt=attempt))
        self.decisions += 1
        self._left = time.perf_counter()  # the look-ups are no work of the controller
        return ended

    def stop(self, key: int) -> None:
        """See Executor. Nothing reports."""

    def cancel(self, after: float = 0.0) -> None:
        """See Executor. Nothing is waited for."""

    def close(self, keep: bool = False) -> None:
        """See Executor."""
        self._running.clear()


class SimulatedSettings(ExecutorSettings):
    """Makes executors of simulated places."""

    kind: str | None = "simulated"
    mean: float = 60.0
    """Mean seconds of a trial."""

    def make(self, evaluator: Evaluator, site: Site) -> SimulatedPlaces:
        """See ExecutorSettings."""
        evaluator.prepare()
        assert isinstance(evaluator, TableEvaluator) or evaluator.inline
        return SimulatedPlaces(evaluator, self.workers, lognormal(self.mean))
