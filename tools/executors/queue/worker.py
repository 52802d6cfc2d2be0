"""A worker: takes trials from the queue, and evaluates one at a time."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from sqlalchemy import Connection

from lm_searcher.spaces.errors import EvaluatorError, StoreError, UserError
from lm_searcher.tools.databases import RETRY_SECONDS
from lm_searcher.tools.executors.local import LocalExecutor
from lm_searcher.tools.executors.protocol import Ended, Event, Reported
from lm_searcher.tools.executors.queue.beats import Beats
from lm_searcher.tools.executors.queue.documents import outcome_text, report_text
from lm_searcher.tools.executors.queue.link import Link
from lm_searcher.tools.executors.queue.loaded import Loaded, Work
from lm_searcher.tools.executors.queue.tables import BEAT_SECONDS, GO_ON, STOP
from lm_searcher.tools.executors.queue.taking import Taken, Taker

_LOOK_SECONDS = 0.1
"""The longest wait for an evaluation without a look at wishes and signals."""

Source = Callable[[Connection, str], Callable[[], Work]]
"""Reads from the store what it has of the run with that id; what it returns then makes the work.
Both raise UserError."""


_WORKER_ENDED = "its worker was ended"


class _EndedWhileLoading(Exception):
    """The worker is to end, and its evaluator is not loaded yet."""


class _Refused(Exception):
    """The worker cannot evaluate the trials of a run."""

    def __init__(self, error: UserError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass
class QueueWorker:
    """Serves the run with the id `run`, or whichever run of the store has trials that wait.

    It ends `idle` seconds after its last trial, or by `end`. `tell` is called with a line for each
    trial. `device` is the CUDA number of its GPU. Raises StoreError, and UserError if it cannot
    evaluate the trials of the one run that it serves; those of other runs it leaves to others.
    """

    url: str
    source: Source
    place: str
    run: str = ""
    device: str | None = None
    idle: float = math.inf
    grace: float = 0.0
    tell: Callable[[str], None] = lambda line: None
    _until: float = field(default=math.inf, init=False)
    """When what it evaluates is given back; it takes nothing more once that is set."""
    _loading: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._thread = threading.current_thread()
        self._woken: SimpleQueue[None] = SimpleQueue()
        self._loaded = Loaded(self.device)
        self._taker = Taker(uuid.uuid4().hex, self.run, self.place)
        self._link = Link(self.url)
        self._beats = Beats(self.url, self._taker, lambda: self._woken.put(None))

    def end(self, at_once: bool = False) -> None:
        """Take nothing more, and end: after the trial that runs, or after `grace` seconds, when it
        is given back; or `at_once`. To be called in a signal handler, or by another thread."""
        self._until = min(self._until, time.monotonic() + (0.0 if at_once else self.grace))
        self._woken.put(None)
        if self._loading and threading.current_thread() is self._thread:
            raise _EndedWhileLoading

    def serve(self) -> None:
        """Take trials and evaluate them, until the worker is to end."""
        self._thread, since = threading.current_thread(), time.monotonic()
        try:
            while self._until == math.inf:
                if self._beats.error is not None:
                    raise self._beats.error
                if (task := self._link.run(self._taker.take, durable=False)) is not None:
                    self._evaluate(task)
                    since = time.monotonic()
                elif time.monotonic() - since >= self.idle:
                    break
                else:
                    self._await_news(min(BEAT_SECONDS, since + self.idle - time.monotonic()))
        finally:
            self._loaded.close()
            self._beats.close()
            with contextlib.suppress(StoreError):  # it will not be heard of any more
                self._link.run(self._taker.leave, patience=0.0)
            self._link.close()

    def _await_news(self, timeout: float) -> None:
        with contextlib.suppress(Empty):
            self._woken.get(timeout=max(0.0, timeout))
            while True:
                self._woken.get_nowait()

    # -- a trial -------------------------------------------------------------------------------

    def _evaluate(self, task: Taken) -> None:
        self._taker.free, self._beats.task = False, task
        try:
            name, executor = self._load(task)
            ended = self._result(task, executor)
        except _EndedWhileLoading:
            self._give_back(task)
        except _Refused as refused:
            self._refuse(task, refused.error)
        except BaseException:
            with contextlib.suppress(StoreError):
                self._leave(task, Ended(task.evaluation.key, None, _WORKER_ENDED), patience=0.0)
            raise
        else:
            kept = self._leave(task, ended)
            self.tell(f"{name} {_told(task, ended if kept else None)}")

    def _load(self, task: Taken) -> tuple[str, LocalExecutor]:
        """The name of the task's run, and the executor that evaluates it."""
        make = self._link.run(lambda c: self._read(c, task.run))
        self._loading = True
        try:
            if self._until < math.inf:
                raise _EndedWhileLoading
            work, executor = self._loaded.get(task.controller, make)
        except UserError as error:
            raise _Refused(error) from error
        finally:
            self._loading = False
        return work.name, executor

    def _read(self, connection: Connection, run: str) -> Callable[[], Work]:
        try:
            return self.source(connection, run)
        except UserError as error:
            raise _Refused(error) from error

    def _result(self, task: Taken, executor: LocalExecutor) -> Ended | None:
        """The end of the evaluation; None if nobody waits for it any more."""
        executor.submit(task.evaluation, task.attempt)
        while True:
            wish: int | None = GO_ON
            for event in self._poll(executor):
                if isinstance(event, Ended):
                    return self._judged(event)
                if isinstance(event, Reported):
                    wish = self._report(task, event)
            if self._beats.wish is not None and self._beats.wish[0] is task:
                wish = self._beats.wish[1]
            if wish == STOP:
                executor.stop(task.evaluation.key)
            elif wish != GO_ON:
                self._loaded.drop(task.controller)
                return None
            if time.monotonic() >= self._until:
                self._loaded.drop(task.controller)
                return Ended(task.evaluation.key, None, _WORKER_ENDED, task.attempt)

    def _poll(self, executor: LocalExecutor) -> list[Event]:
        try:
            return executor.poll(_LOOK_SECONDS)
        except EvaluatorError as error:  # its process is gone, and does not start again
            raise _Refused(error) from error

    def _report(self, task: Taken, report: Reported) -> int | None:
        text = report_text(report.step, report.value)
        return self._link.run(lambda c: self._taker.report(c, task, text), durable=False)

    def _judged(self, ended: Ended) -> Ended:
        """A scheduler that ends the worker may end the evaluation's processes too: then a failure
        is none of the architecture."""
        if self._until < math.inf and ended.outcome is not None and ended.outcome.reason:
            lost = f"{_WORKER_ENDED} ({ended.outcome.reason})"
            return Ended(ended.key, None, lost, ended.attempt)
        return ended

    # -- what becomes of it --------------------------------------------------------------------

    def _leave(self, task: Taken, ended: Ended | None, patience: float = RETRY_SECONDS) -> bool:
        """Write the end of a task; whether anybody waited for it."""
        self._beats.task, self._taker.free = None, self._until == math.inf
        if ended is None:
            self._link.run(lambda c: self._taker.drop(c, task), patience=patience, durable=False)
            return False
        text = outcome_text(ended.outcome, ended.lost)
        kept = self._link.run(lambda c: self._taker.end(c, task, text), patience=patience)
        self._link.run(lambda c: self._taker.tell_end(c, task), patience=patience, durable=False)
        return kept

    def _give_back(self, task: Taken) -> None:
        """Have another worker begin it."""
        self._beats.task, self._taker.free = None, self._until == math.inf
        self._link.run(lambda c: self._taker.give_back(c, task), durable=False)

    def _refuse(self, task: Taken, error: UserError) -> None:
        """Leave the trials of the controller to others."""
        self._loaded.drop(task.controller)
        self._taker.refused[task.controller] = str(error)
        self._give_back(task)
        if self.run:
            raise error
        self.tell(f"run {task.run} is left to other workers: {error}")


def _told(task: Taken, ended: Ended | None) -> str:
    """A line of what became of a trial."""
    trial = f"{task.evaluation.key}" + (f" (attempt {task.attempt})" if task.attempt > 1 else "")
    if ended is None:
        return f"{trial}: not wanted any more"
    if (outcome := ended.outcome) is None:
        return f"{trial}: given back: {ended.lost}"
    if outcome.reason is not None:
        return f"{trial}: failed after {outcome.seconds:.1f} s: {outcome.reason}"
    metrics = ", ".join(f"{name} {value:.6g}" for name, value in outcome.metrics.items())
    stopped = "stopped, " if outcome.stopped else ""
    return f"{trial}: {stopped}{metrics}, {outcome.seconds:.1f} s"
