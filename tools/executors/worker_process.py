"""The controller's end of one worker process."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import cloudpickle

from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.tools.executors.worker import receive, send
from lm_searcher.tools.protocols import Evaluation, Evaluator, Outcome

_log = logging.getLogger("lm_searcher.executors")


@dataclass
class WorkerProcess:
    """A worker process and the evaluation it runs; `worker` describes the messages.

    `channel` is the socket to the worker, `pipe` the one to the evaluation's own process, whose
    id is `pid` (None until the worker has sent it).
    """

    process: subprocess.Popen[bytes]
    channel: socket.socket
    evaluation: Evaluation | None = None
    pipe: Connection | None = None
    pid: int | None = None
    started: float = 0.0
    stopped: bool = False
    reason: str | None = None
    metrics: dict[str, float] | None = None

    @classmethod
    def spawn(
        cls, evaluator: Evaluator, environment: Mapping[str, str], log: Path | None
    ) -> WorkerProcess:
        """Start a worker, which then loads the evaluator. Its output goes to the end of the file
        `log`, or to this process's stderr."""
        ours, theirs = socket.socketpair()
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
        with theirs, open(log or os.devnull, "ab") as file:
            output = file.fileno() if log else 2
            process = subprocess.Popen(
                [sys.executable, "-m", "lm_searcher.tools.executors.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )
        _log.debug("worker process %d started", process.pid)
        with contextlib.suppress(ConnectionError):  # it has died; `await_ready` raises
            send(ours, cloudpickle.dumps(evaluator))
        return cls(process, ours)

    def await_ready(self) -> None:
        """Wait until the evaluator is loaded. Raises EvaluatorError if it does not start."""
        try:
            kind, text = pickle.loads(receive(self.channel)[0])
        except (EOFError, ConnectionError):
            code = self.process.wait()
            raise EvaluatorError(
                f"the evaluator's worker process ended with code {code} while it was loading"
            ) from None
        if kind == "error":
            raise EvaluatorError(text)

    def start(self, evaluation: Evaluation, memory: int | None) -> None:
        """Begin an evaluation. Raises ConnectionError if the worker has died."""
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as on_error:
            on_error.callback(ours.close)
            send(self.channel, pickle.dumps((evaluation, memory)), (theirs.fileno(),))
            on_error.pop_all()
        self.evaluation, self.pipe = evaluation, Connection(ours.detach())
        self.pid, self.reason, self.metrics = None, None, None
        self.stopped, self.started = False, time.monotonic()

    def read_pipe(self, report: Callable[[Evaluation, int, float], bool]) -> None:
        """Take one message of the evaluation: a report, which is answered, or its result."""
        assert self.pipe is not None and self.evaluation is not None
        try:
            kind, *content = self.pipe.recv()
            if kind == "report":
                self.stopped = report(self.evaluation, *content) or self.stopped
                self.pipe.send(self.stopped)
            elif kind == "result":
                self.metrics = content[0]
            else:
                self.reason = self.reason or content[0]
        except (EOFError, OSError):  # the evaluation ended; the worker will send its exit code
            self.pipe.close()
            self.pipe = None

    def read_channel(self) -> int | None:
        """Take one message of the worker; the evaluation's exit code once it has ended."""
        try:
            kind, content = pickle.loads(receive(self.channel)[0])
        except (EOFError, ConnectionError):
            self.kill_evaluation("the worker process was killed")
            return self.process.wait()
        if kind == "pid":
            self.pid = content
            if self.reason is not None:  # the time limit passed before the pid was known
                self.kill_evaluation(self.reason)
            return None
        return int(content)

    def finish(self, code: int) -> tuple[Evaluation, Outcome]:
        """The evaluation that ended with exit code `code`, and its outcome."""
        evaluation = self.evaluation
        assert evaluation is not None
        while self.pipe is not None and self.pipe.poll():  # its last messages
            self.read_pipe(lambda *_: False)
        if self.pipe is not None:
            self.pipe.close()
        seconds = time.monotonic() - self.started
        self.evaluation = self.pipe = self.pid = None
        if self.metrics is not None and self.reason is None:
            return evaluation, Outcome(self.metrics, seconds, stopped=self.stopped)
        reason = self.reason or _exit_reason(code)
        _log.debug("evaluation %d failed after %.1f s: %s", evaluation.key, seconds, reason)
        return evaluation, Outcome({}, seconds, reason)

    def kill_evaluation(self, reason: str) -> None:
        """Kill the evaluation's process group, if it runs; `reason` is then its outcome."""
        self.reason = self.reason or reason
        if self.pid is not None:
            _log.debug("killing evaluation process %d: %s", self.pid, self.reason)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):  # before it leads a group of its own
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the worker: it exits, and kills its child, when the socket closes."""
        self.kill_evaluation("cancelled")
        self.channel.close()
        if self.pipe is not None:
            self.pipe.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        _log.debug("worker process %d ended", self.process.pid)


def _exit_reason(code: int) -> str:
    if code >= 0:
        return f"exited with code {code} before it returned a result"
    name = signal.Signals(-code).name
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"killed by {name}{hint}"
