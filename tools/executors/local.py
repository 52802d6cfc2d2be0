"""Evaluations in worker processes on this machine."""

from __future__ import annotations

import logging
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

from lm_searcher.tools.devices import SHARE
from lm_searcher.tools.executors.worker_process import WorkerProcess
from lm_searcher.tools.protocols import Cancelled, Evaluation, Evaluator, Outcome

DEVICE_MEMORY = 0.9
"""The part of an accelerator's memory that its workers share; CUDA's own contexts take the rest."""

_POLL_SECONDS = 0.5
"""The longest wait without a look at the deadlines and at `cancel`."""

OnReport = Callable[[Evaluation, int, float], bool]

_log = logging.getLogger("lm_searcher.executors")


@dataclass
class LocalExecutor:
    """Worker processes, each of which forks a process for every evaluation.

    `seconds` is the wall-clock limit of one evaluation, `memory` the bytes it may allocate.
    Worker i sees the accelerator `devices[i % len(devices)]` alone. Workers on the same device
    get an equal share of its memory, and each a CUDA context of its own (about half a gigabyte).
    Evaluations in one process would wait for each other's Python code, and one that fails or runs
    out of memory would end the others; the GPU takes turns between processes unless NVIDIA's
    multi-process service runs (`nvidia-cuda-mps-control -d`). What evaluations print goes to the
    file `log`, or to this process's stderr. Raises EvaluatorError if the evaluator does not start.
    """

    evaluator: Evaluator
    workers: int = 1
    seconds: float | None = None
    memory: int | None = None
    devices: Sequence[str] = ()
    log: Path | None = None
    _pool: list[WorkerProcess] = field(default_factory=list, init=False)
    _deadline: float = field(default=math.inf, init=False)

    def __post_init__(self) -> None:
        try:
            for index in range(self.workers):
                self._pool.append(self._spawn(index))
            for worker in self._pool:
                worker.await_ready()
        except BaseException:
            for worker in self._pool:  # one that is still loading does not read its socket
                worker.process.kill()
            self.close()
            raise

    def _spawn(self, index: int) -> WorkerProcess:
        return WorkerProcess.spawn(self.evaluator, self._environment(index), self.log)

    def _environment(self, index: int) -> dict[str, str]:
        """The variables of worker `index`: its share of the threads, its device, the path."""
        threads = str(max(1, (os.cpu_count() or 1) // self.workers))
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        if self.devices:
            assigned = [self.devices[i % len(self.devices)] for i in range(self.workers)]
            environment["CUDA_VISIBLE_DEVICES"] = assigned[index]
            if (sharing := assigned.count(assigned[index])) > 1:
                environment[SHARE] = str(DEVICE_MEMORY / sharing)
        return environment

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
        try:
            self._pool[index].start(evaluation, self.memory)
        except ConnectionError:  # the worker died idle
            self._replace(index)
            self._pool[index].start(evaluation, self.memory)

    def _replace(self, index: int) -> None:
        _log.info("worker process %d died; starting another", self._pool[index].process.pid)
        self._pool[index].close()
        self._pool[index] = self._spawn(index)
        self._pool[index].await_ready()

    def _step(self, report: OnReport) -> Iterator[tuple[Evaluation, Outcome]]:
        """Wait for messages, and yield the evaluations that ended."""
        busy = [(i, w) for i, w in enumerate(self._pool) if w.evaluation is not None]
        sources: list[Connection | socket.socket] = []
        owners: dict[object, int] = {}
        for index, worker in busy:
            for source in (worker.channel, worker.pipe):
                if source is not None:
                    sources.append(source)
                    owners[source] = index
        finished = []
        for ready in wait(sources, timeout=self._wait_seconds()):
            index = owners[ready]
            worker = self._pool[index]
            if isinstance(ready, Connection):
                if ready is worker.pipe:  # not closed meanwhile
                    worker.read_pipe(report)
            elif (code := worker.read_channel()) is not None:
                finished.append(self._finish(index, code))
        # Before anything is yielded: the caller may take its time, and the messages of evaluations
        # that end meanwhile must be read before the clock is.
        for _, worker in busy:
            if self.seconds and time.monotonic() - worker.started > self.seconds:
                worker.kill_evaluation(f"timed out after {self.seconds:g} s")
        yield from finished

    def _wait_seconds(self) -> float:
        """Until the next evaluation times out, at most _POLL_SECONDS."""
        if self.seconds is None:
            return _POLL_SECONDS
        first = min(w.started for w in self._pool if w.evaluation is not None)
        return min(_POLL_SECONDS, max(0.01, first + self.seconds - time.monotonic()))

    def _finish(self, index: int, code: int) -> tuple[Evaluation, Outcome]:
        finished = self._pool[index].finish(code)
        if self._pool[index].process.poll() is not None:
            self._replace(index)
        return finished

    def cancel(self, after: float = 0.0) -> None:
        """See Executor."""
        self._deadline = min(self._deadline, time.monotonic() + after)

    def close(self) -> None:
        """See Executor."""
        for worker in self._pool:
            worker.close()
        self._pool = []
