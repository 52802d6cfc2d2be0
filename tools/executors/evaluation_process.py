"""The controller's end of one evaluation's process."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from selectors import EVENT_READ, BaseSelector

from lm_searcher.tools.executors.outcome_check import EXITED, KILLED, KILLS, is_lost
from lm_searcher.tools.executors.protocol import Ended, Reported
from lm_searcher.tools.protocols import Evaluation, Metrics, Outcome

_log = logging.getLogger("lm_searcher.executors")


@dataclass
class EvaluationProcess:
    """An evaluation at a worker; `worker` describes the messages.

    `pid` is None until the worker has sent it. `limit` is when its time is up; the time that it
    waits for answers to its reports does not count.
    """

    evaluation: Evaluation
    attempt: int
    pipe: Connection | None
    selector: BaseSelector
    limit: float = math.inf
    started: float = field(default_factory=time.monotonic)
    pid: int | None = None
    asked: float | None = None
    """Since when it has been waiting for the answer to a report."""
    stopping: bool = False
    stopped: bool = False
    reason: str | None = None
    metrics: Metrics | None = None

    def __post_init__(self) -> None:
        assert self.pipe is not None
        self.selector.register(self.pipe, EVENT_READ, self)

    def read(self) -> Reported | None:
        """Take one message: a report, which is yet to be answered, or the result."""
        if self.pipe is None:  # closed since it was found ready
            return None
        try:
            kind, content = self.pipe.recv()
        except (EOFError, OSError):  # the process ended; the worker will send its exit code
            self.close_pipe()
            return None
        if kind == "report":
            step, value, self.asked = content
            return Reported(self.evaluation.key, step, value)
        if kind == "result":
            self.metrics = content
        else:
            self.reason = self.reason or content
        return None

    def answer(self) -> None:
        """Let it go on after a report, or end if it is to stop; nothing if it does not wait."""
        if self.asked is None or self.pipe is None:
            return
        self.limit += time.monotonic() - self.asked
        self.asked = None
        self.stopped = self.stopping
        with contextlib.suppress(OSError):  # it ended meanwhile
            self.pipe.send(self.stopping)

    def stop(self) -> None:
        """Answer its report, or the next one, by a request to stop."""
        self.stopping = True
        self.answer()

    def due(self) -> float:
        """When it is to be killed: at its limit, unless it waits for the controller or is over."""
        over = self.asked is not None or self.reason is not None or self.metrics is not None
        return math.inf if over else self.limit

    def began(self, pid: int) -> None:
        """The worker has forked the process."""
        self.pid = pid
        if self.reason is not None:  # the time limit passed before the pid was known
            self.kill(self.reason)

    def kill(self, reason: str) -> None:
        """Kill it, now or once its pid is known; `reason` is then its outcome."""
        self.reason = self.reason or reason
        self.kill_group()

    def kill_group(self) -> None:
        """Kill its process group, if it runs."""
        if self.pid is not None:
            _log.debug("killing evaluation process %d: %s", self.pid, self.reason)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):  # before it leads a group of its own
                os.kill(self.pid, signal.SIGKILL)

    def ended(self, code: int | None, at: float) -> Ended:
        """What became of it; `code` is its exit code, None if its worker died with it."""
        while self.pipe is not None and self.pipe.poll():  # its last messages
            self.read()
        self.close_pipe()
        key, seconds = self.evaluation.key, at - self.started
        if self.metrics is not None:
            outcome = Outcome(self.metrics, seconds, stopped=self.stopped)
            return Ended(key, outcome, attempt=self.attempt)
        reason = self.reason or (KILLS[0] if code is None else _exit_reason(code))
        _log.debug("evaluation %d failed after %.1f s: %s", key, seconds, reason)
        if is_lost(reason):
            return Ended(key, None, reason, self.attempt)
        return Ended(key, Outcome({}, seconds, reason), attempt=self.attempt)

    def close_pipe(self) -> None:
        """Read no more."""
        if self.pipe is not None:
            self.selector.unregister(self.pipe)
            self.pipe.close()
            self.pipe = None


def _exit_reason(code: int) -> str:
    if code >= 0:
        return f"{EXITED} {code} before it returned a result"
    name = signal.Signals(-code).name
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"{KILLED} {name}{hint}"
