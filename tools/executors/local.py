"""Executors: evaluations in the controller's process, or in worker processes of their own."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

import cloudpickle

from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.tools.devices import SHARE
from lm_searcher.tools.executors.worker import checked, reason_of, receive, send
from lm_searcher.tools.protocols import Cancelled, Evaluation, Evaluator, Executor, Outcome

DEVICE_MEMORY = 0.9
"""The part of an accelerator's memory that its workers share; CUDA's own contexts take the rest."""

OnReport = Callable[[Evaluation, int, float], bool]


class InlineExecutor:
    """Evaluates in the controller's process: for look-ups, which need no protection."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        evaluator.prepare()

    def run(
        self, evaluations: Iterable[Evaluation], report: OnReport
    ) -> Iterator[tuple[Evaluation, Outcome]]:
        """See Executor."""
        for evaluation in evaluations:
            yield evaluation, self._measure(evaluation, report)

    def _measure(self, evaluation: Evaluation, report: OnReport) -> Outcome:
        started, stopped = time.monotonic(), False

        def reported(step: int, value: float) -> bool:
            nonlocal stopped
            stopped = report(evaluation, step, value) or stopped
            return stopped

        try:
            metrics = checked(self.evaluator.evaluate(evaluation, reported), self.evaluator.metric)
        except Exception as error:  # the evaluation boundary
            return Outcome({}, time.monotonic() - started, reason_of(error))
        return Outcome(metrics, time.monotonic() - started, stopped=stopped)

    def cancel(self, after: float = 0.0) -> None:
        """See Executor. A look-up is over before anybody could wait for it."""

    def close(self) -> None:
        """See Executor."""


@dataclass
class _Worker:
    """The executor's end of one worker process, and the evaluation it is busy with."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    evaluation: Evaluation | None = None
    pipe: Connection | None = None
    pid: int | None = None
    started: float = 0.0
    stopped: bool = False
    reason: str | None = None
    metrics: dict[str, float] | None = None

    def kill_evaluation(self, reason: str) -> None:
        self.reason = self.reason or reason
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):  # before it leads a group of its own
                os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Close the socket, at which the worker kills its child and exits; then make sure."""
        self.kill_evaluation("cancelled")
        self.channel.close()
        if self.pipe is not None:
            self.pipe.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class LocalExecutor:
    """Worker processes on this machine, each evaluation in a process of its own.

    `seconds` is the wall-clock limit of one evaluation, `memory` the bytes it may allocate.
    Worker i sees the accelerator `devices[i % len(devices)]` alone; workers on the same one are
    told their share of its memory. What evaluations print goes to the file `log`, or to this
    process's stderr. Raises EvaluatorError if the evaluator does not start.
    """

    evaluator: Evaluator
    workers: int = 1
    seconds: float | None = None
    memory: int | None = None
    devices: Sequence[str] = ()
    log: Path | None = None
    _pool: list[_Worker] = field(default_factory=list, init=False)
    _deadline: float = field(default=math.inf, init=False)

    def __post_init__(self) -> None:
        try:
            self._pool = [self._spawn(i) for i in range(self.workers)]
            for worker in self._pool:
                self._await_ready(worker)
        except BaseException:
            for worker in self._pool:  # it loads, and would not hear that nobody waits for it
                worker.process.kill()
            self.close()
            raise

    def _spawn(self, index: int) -> _Worker:
        ours, theirs = socket.socketpair()
        threads = str(max(1, (os.cpu_count() or 1) // self.workers))
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        if self.devices:
            dealt = [self.devices[i % len(self.devices)] for i in range(self.workers)]
            environment["CUDA_VISIBLE_DEVICES"] = dealt[index]
            if (sharing := dealt.count(dealt[index])) > 1:
                environment[SHARE] = str(DEVICE_MEMORY / sharing)
        if self.log is not None:
            self.log.parent.mkdir(parents=True, exist_ok=True)
        with theirs, open(self.log or os.devnull, "ab") as log:
            output = log.fileno() if self.log else 2
            process = subprocess.Popen(
                [sys.executable, "-m", "lm_searcher.tools.executors.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )
        worker = _Worker(process, ours)
        with contextlib.suppress(ConnectionError):
            send(ours, cloudpickle.dumps(self.evaluator))
        return worker

    def _await_ready(self, worker: _Worker) -> None:
        try:
            kind, text = pickle.loads(receive(worker.channel)[0])
        except (EOFError, ConnectionError):
            code = worker.process.wait()
            raise EvaluatorError(
                f"the evaluator's worker process ended with code {code} while it was loading"
            ) from None
        if kind == "error":
            raise EvaluatorError(text)

    def run(
        self, evaluations: Iterable[Evaluation], report: OnReport
    ) -> Iterator[tuple[Evaluation, Outcome]]:
        """See Executor. Raises Cancelled after `cancel`."""
        queue = iter(evaluations)
        while True:
            for index, worker in enumerate(self._pool):
                if worker.evaluation is None and (following := next(queue, None)):
                    self._start(index, following)
            if all(worker.evaluation is None for worker in self._pool):
                return
            if time.monotonic() > self._deadline:
                raise Cancelled
            yield from self._step(report)

    def _start(self, index: int, evaluation: Evaluation) -> None:
        worker = self._pool[index]
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                message = pickle.dumps((evaluation, self.memory))
                send(worker.channel, message, (theirs.fileno(),))
            except ConnectionError:  # the worker died idle: a new one takes its place
                worker.end()
                worker = self._pool[index] = self._spawn(index)
                self._await_ready(worker)
                send(worker.channel, message, (theirs.fileno(),))
        worker.evaluation, worker.pipe = evaluation, Connection(ours.detach())
        worker.pid, worker.reason, worker.metrics = None, None, None
        worker.stopped, worker.started = False, time.monotonic()

    def _step(self, report: OnReport) -> Iterator[tuple[Evaluation, Outcome]]:
        """Wait for the next thing to happen, and yield what it finished."""
        busy = [(i, w) for i, w in enumerate(self._pool) if w.evaluation is not None]
        sources: dict[Connection | socket.socket, int] = {}
        for index, worker in busy:
            sources[worker.channel] = index
            if worker.pipe is not None:
                sources[worker.pipe] = index
        for source in wait(list(sources), timeout=self._patience()):
            index = sources[source]  # type: ignore[index]
            worker = self._pool[index]
            if isinstance(source, Connection):
                if source is worker.pipe:  # not closed meanwhile
                    self._listen(worker, report)
            elif (code := self._hear(worker)) is not None:
                yield self._finish(index, code)
        for _, worker in busy:
            if self.seconds and time.monotonic() - worker.started > self.seconds:
                worker.kill_evaluation(f"timed out after {self.seconds:g} s")

    def _patience(self) -> float:
        """Seconds to wait at most: to the next deadline, and never long without a look."""
        if self.seconds is None:
            return 0.5
        first = min(w.started for w in self._pool if w.evaluation is not None)
        return min(0.5, max(0.01, first + self.seconds - time.monotonic()))

    @staticmethod
    def _listen(worker: _Worker, report: OnReport) -> None:
        """One message from the evaluation itself."""
        assert worker.pipe is not None and worker.evaluation is not None
        try:
            kind, *content = worker.pipe.recv()
            if kind == "report":
                worker.stopped = report(worker.evaluation, *content) or worker.stopped
                worker.pipe.send(worker.stopped)
            elif kind == "result":
                worker.metrics = content[0]
            else:
                worker.reason = worker.reason or content[0]
        except (EOFError, OSError):  # it ended; how, the worker will say
            worker.pipe.close()
            worker.pipe = None

    @staticmethod
    def _hear(worker: _Worker) -> int | None:
        """One message from the worker; the evaluation's exit code once it has ended."""
        try:
            kind, content = pickle.loads(receive(worker.channel)[0])
        except (EOFError, ConnectionError):
            worker.kill_evaluation("the worker process was killed")
            return worker.process.wait()
        if kind == "pid":
            worker.pid = content
            if worker.reason is not None:  # the limit passed before the pid was known
                worker.kill_evaluation(worker.reason)
            return None
        return int(content)

    def _finish(self, index: int, code: int) -> tuple[Evaluation, Outcome]:
        worker = self._pool[index]
        evaluation = worker.evaluation
        assert evaluation is not None
        while worker.pipe is not None and worker.pipe.poll():  # what it said last
            self._listen(worker, lambda *_: False)
        if worker.pipe is not None:
            worker.pipe.close()
        seconds = time.monotonic() - worker.started
        worker.evaluation = worker.pipe = None
        worker.pid = None
        if worker.process.poll() is not None:
            worker.end()
            self._pool[index] = self._spawn(index)
            self._await_ready(self._pool[index])
        if worker.metrics is not None and worker.reason is None:
            return evaluation, Outcome(worker.metrics, seconds, stopped=worker.stopped)
        return evaluation, Outcome({}, seconds, worker.reason or _ended(code))

    def cancel(self, after: float = 0.0) -> None:
        """See Executor."""
        self._deadline = min(self._deadline, time.monotonic() + after)

    def close(self) -> None:
        """See Executor."""
        for worker in self._pool:
            worker.end()
        self._pool = []


def _ended(code: int) -> str:
    if code >= 0:
        return f"exited with code {code} before it returned a result"
    name = signal.Signals(-code).name
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"killed by {name}{hint}"


def visible_devices() -> list[str]:
    """The accelerators of this machine, without loading a framework: CUDA's numbers as text."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [d.strip() for d in listed.split(",") if d.strip() not in ("", "-1")]
    with contextlib.suppress(OSError):
        found = [n[6:] for n in os.listdir("/dev") if n.startswith("nvidia") and n[6:].isdigit()]
        return sorted(found, key=int)
    return []


def memory_limit(workers: int) -> int:
    """Bytes that one of `workers` evaluations may allocate: an equal share of nine tenths."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(0.9 * total / workers)


def make_executor(
    evaluator: Evaluator,
    workers: int = 1,
    seconds: float | None = None,
    memory: int | None = None,
    devices: Sequence[str] = (),
    log: Path | None = None,
) -> Executor:
    """In the controller's process for an inline evaluator, else worker processes."""
    if evaluator.inline:
        return InlineExecutor(evaluator)
    devices = list(devices) or visible_devices()
    if memory is None and not devices:  # an accelerator's driver maps more than it uses
        memory = memory_limit(workers)
    return LocalExecutor(evaluator, workers, seconds, memory, devices, log)
