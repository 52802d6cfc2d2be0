"""The controller's end of one worker process."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from selectors import EVENT_READ, BaseSelector

import cloudpickle

from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.tools.executors.evaluation_process import EvaluationProcess
from lm_searcher.tools.executors.protocol import Ended
from lm_searcher.tools.executors.worker import receive, send
from lm_searcher.tools.protocols import Evaluation, Evaluator

_log = logging.getLogger("lm_searcher.executors")


class WorkerDied(Exception):
    """A worker process has ended, and with it what it ran."""


@dataclass
class WorkerProcess:
    """A worker process and the evaluation it runs; `worker` describes the messages.

    `channel` is the socket to the worker, which has loaded the evaluator once it is `ready`.
    """

    process: subprocess.Popen[bytes]
    channel: socket.socket
    selector: BaseSelector
    index: int
    loads: int = 1
    """How often this place's worker has been started since one was last ready."""
    ready: bool = False
    running: EvaluationProcess | None = None

    @classmethod
    def spawn(
        cls,
        evaluator: Evaluator,
        environment: Mapping[str, str],
        log: Path | None,
        selector: BaseSelector,
        index: int,
        loads: int,
    ) -> WorkerProcess:
        """Start a worker, which then loads the evaluator. Its output goes to the end of the file
        `log`, or to this process's stderr. Its channel is registered at the selector with the
        WorkerProcess, the pipe of an evaluation with its EvaluationProcess."""
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
        with contextlib.suppress(ConnectionError):  # it has died, as `read` will find
            send(ours, cloudpickle.dumps(evaluator))
        worker = cls(process, ours, selector, index, loads)
        selector.register(ours, EVENT_READ, worker)
        return worker

    def start(
        self, evaluation: Evaluation, attempt: int, seconds: float | None, memory: int | None
    ) -> None:
        """Begin an evaluation; that the worker has died is found by `read`."""
        ours, theirs = socket.socketpair()
        with theirs, contextlib.suppress(ConnectionError):
            send(self.channel, pickle.dumps((evaluation, memory)), (theirs.fileno(),))
        limit = time.monotonic() + (seconds or math.inf)
        pipe = Connection(ours.detach())
        self.running = EvaluationProcess(evaluation, attempt, pipe, self.selector, limit)

    def read(self) -> tuple[int, float] | None:
        """Take one message; the evaluation's exit code and its time once it has ended.

        Raises WorkerDied, and EvaluatorError if the evaluator does not start.
        """
        try:
            kind, content = pickle.loads(receive(self.channel)[0])
        except (EOFError, ConnectionError):
            if self.running is not None:
                self.running.kill_group()  # where it does not end with its parent
            raise WorkerDied from None
        if kind == "exit":
            code, at = content
            return code, at
        if kind == "pid" and self.running is not None:
            self.running.began(content)
        if kind == "error":
            raise EvaluatorError(content)
        self.ready = True
        return None

    def end(self, code: int | None, at: float) -> Ended:
        """What became of its evaluation; see EvaluationProcess. The worker is free then."""
        assert self.running is not None
        ended, self.running = self.running.ended(code, at), None
        return ended

    def let_go(self) -> None:
        """Have the worker end: it exits, and kills its child, when the socket closes."""
        if self.running is not None:
            self.running.kill("cancelled")
            self.running.close_pipe()
        if not self.ready:  # it is loading and does not read its socket
            self.process.kill()
        self.selector.unregister(self.channel)
        self.channel.close()

    def await_end(self) -> None:
        """Wait until it has ended; not for long."""
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        _log.debug("worker process %d ended", self.process.pid)
