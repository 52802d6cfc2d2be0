"""Evaluations in the controller's own process."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from queue import Empty, SimpleQueue
from threading import Thread

from lm_searcher.tools.executors.outcome_check import checked_metrics, failure_reason
from lm_searcher.tools.executors.protocol import Ended, Event, Reported
from lm_searcher.tools.protocols import Cancelled, Evaluation, Evaluator, Outcome

_WAKE_SECONDS = 0.5
"""The longest wait without a look at `cancel`."""

_log = logging.getLogger("lm_searcher.executors")


class _Abandoned(BaseException):
    """The controller no longer wants the evaluation; no evaluator catches this."""


class InlineExecutor:
    """Evaluates one after the other, for look-ups that need no protection.

    Of `workers` evaluations, each `poll` continues the oldest until it reports or ends, beyond the
    timeout if need be, so that the events depend on no clock. Evaluations run in a thread, which
    waits while the controller considers a report; handing over takes about 0.01 ms.
    """

    def __init__(self, evaluator: Evaluator, workers: int = 1) -> None:
        self.evaluator, self.workers = evaluator, workers
        self._waiting: deque[tuple[Evaluation, int]] = deque()
        self._current: int | None = None  # key of the evaluation in the thread
        self._asked = False  # it waits for the answer to a report
        self._stopped: set[int | None] = set()
        self._deadline = math.inf
        self._thread: Thread | None = None
        self._tasks: SimpleQueue[tuple[Evaluation, int] | None] = SimpleQueue()
        self._answers: SimpleQueue[bool | None] = SimpleQueue()
        self._events: SimpleQueue[Reported | Ended | BaseException] = SimpleQueue()
        evaluator.prepare()

    def room(self) -> int:
        """See Executor."""
        return self.workers - len(self._waiting) - (self._current is not None)

    def submit(self, evaluation: Evaluation, attempt: int = 1) -> None:
        """See Executor."""
        if self._thread is None:
            self._thread = Thread(target=self._serve, name="evaluations", daemon=True)
            self._thread.start()
        self._waiting.append((evaluation, attempt))

    def poll(self, timeout: float) -> list[Event]:
        """See Executor; at most one event. Waits for it even beyond `timeout`."""
        if self._current is None and not self._waiting:
            return []
        self._check_cancelled()
        if self._asked:
            self._asked = False
            self._answers.put(self._current in self._stopped)
        elif self._current is None:
            task = self._waiting.popleft()
            self._current = task[0].key
            self._tasks.put(task)
        event = self._next_event()
        if isinstance(event, Reported):
            self._asked = True
            return [event]
        self._stopped.discard(self._current)
        self._current = None
        if isinstance(event, BaseException):
            raise event
        return [event]

    def _next_event(self) -> Reported | Ended | BaseException:
        while True:
            try:
                return self._events.get(timeout=_WAKE_SECONDS)
            except Empty:
                self._check_cancelled()

    def _check_cancelled(self) -> None:
        if time.monotonic() >= self._deadline:
            raise Cancelled

    def stop(self, key: int) -> None:
        """See Executor."""
        if key == self._current or any(key == e.key for e, _ in self._waiting):
            self._stopped.add(key)

    def cancel(self, after: float = 0.0) -> None:
        """See Executor."""
        self._deadline = min(self._deadline, time.monotonic() + after)

    def close(self, keep: bool = False) -> None:
        """See Executor. An evaluation that does not report cannot be ended, and is left behind."""
        self._waiting.clear()
        if self._thread is None:
            return
        self._answers.put(None)
        self._tasks.put(None)
        if self._current is None or self._asked:
            self._thread.join()
        self._thread = self._current = None

    # -- in the thread -------------------------------------------------------------------------

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                self._events.put(self._evaluate(*task))
            except _Abandoned:
                return
            except BaseException as error:  # the controller's to raise
                self._events.put(error)

    def _evaluate(self, evaluation: Evaluation, attempt: int) -> Ended:
        started, stopped = time.monotonic(), False

        def report(step: int, value: float) -> bool:
            nonlocal stopped
            self._events.put(Reported(evaluation.key, int(step), float(value)))
            if (answer := self._answers.get()) is None:
                raise _Abandoned
            stopped = answer
            return answer

        try:
            result = self.evaluator.evaluate(evaluation, report)
            metrics = checked_metrics(result, self.evaluator.metric)
        except (Exception, SystemExit) as error:  # the evaluation boundary
            reason = failure_reason(error)
            _log.debug("evaluation %d failed: %s", evaluation.key, reason, exc_info=True)
            outcome = Outcome({}, time.monotonic() - started, reason)
        else:
            outcome = Outcome(metrics, time.monotonic() - started, stopped=stopped)
        return Ended(evaluation.key, outcome, attempt=attempt)
