"""Evaluations in worker processes on this machine."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from selectors import BaseSelector, DefaultSelector

from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.tools.devices import SHARE
from lm_searcher.tools.executors.device_faults import DeviceFaults
from lm_searcher.tools.executors.evaluation_process import EvaluationProcess
from lm_searcher.tools.executors.protocol import Began, Ended, Event
from lm_searcher.tools.executors.worker_process import WorkerDied, WorkerProcess
from lm_searcher.tools.protocols import Cancelled, Evaluation, Evaluator

DEVICE_MEMORY = 0.9
"""The part of an accelerator's memory that its workers share; CUDA's own contexts take the rest."""

LOADS = 3
"""How often a worker is started anew that is killed while it loads."""

_WAKE_SECONDS = 0.5
"""The longest wait without a look at `cancel`."""

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
    file `log`, or to this process's stderr. Workers get the variables of `environment` too. Raises
    EvaluatorError if the evaluator does not start.

    A place is lost with a worker that is killed (another takes its place), with an evaluation
    that the kernel kills, and with several that crash on one GPU (see DeviceFaults).
    """

    evaluator: Evaluator
    workers: int = 1
    seconds: float | None = None
    memory: int | None = None
    devices: Sequence[str] = ()
    log: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    _pool: list[WorkerProcess] = field(default_factory=list, init=False)
    _selector: BaseSelector = field(default_factory=DefaultSelector, init=False)
    _faults: DeviceFaults = field(default_factory=DeviceFaults, init=False)
    _events: list[Event] = field(default_factory=list, init=False)
    _deadline: float = field(default=math.inf, init=False)

    def __post_init__(self) -> None:
        try:
            for index in range(self.workers):
                self._pool.append(self._spawn(index))
            while not all(worker.ready for worker in self._pool):
                self._read(None)
        except BaseException:
            self.close()
            raise

    # -- places --------------------------------------------------------------------------------

    def _device(self, index: int) -> str | None:
        return self.devices[index % len(self.devices)] if self.devices else None

    def _sharing(self, index: int) -> int:
        """How many workers use the device of worker `index`."""
        return [self._device(i) for i in range(self.workers)].count(self._device(index))

    def _place(self, index: int) -> str:
        if self.devices:
            return f"gpu {self._device(index)}"
        return f"worker {index}" if self.workers > 1 else ""

    def _spawn(self, index: int, loads: int = 1) -> WorkerProcess:
        environment = self._environment(index)
        return WorkerProcess.spawn(
            self.evaluator, environment, self.log, self._selector, index, loads
        )

    def _environment(self, index: int) -> dict[str, str]:
        """The variables of worker `index`: its share of the threads, its device, the path."""
        threads = str(max(1, (os.cpu_count() or 1) // self.workers))
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        if (device := self._device(index)) is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
            if (sharing := self._sharing(index)) > 1:
                environment[SHARE] = str(DEVICE_MEMORY / sharing)
        return environment | self.environment

    def _free(self) -> list[WorkerProcess]:
        held = self._faults.held
        return [w for w in self._pool if w.ready and w.running is None and w.index not in held]

    def room(self) -> int:
        """See Executor: the number of free workers."""
        return len(self._free())

    # -- evaluations ---------------------------------------------------------------------------

    def submit(self, evaluation: Evaluation, attempt: int = 1) -> None:
        """See Executor."""
        worker = self._free()[0]
        worker.start(evaluation, attempt, self.seconds, self.memory)
        if place := self._place(worker.index):
            self._events.append(Began(evaluation.key, place))

    def stop(self, key: int) -> None:
        """See Executor."""
        for process in self._running():
            if process.evaluation.key == key:
                process.stop()

    def _running(self) -> list[EvaluationProcess]:
        return [worker.running for worker in self._pool if worker.running is not None]

    def poll(self, timeout: float) -> list[Event]:
        """See Executor. Returns early, without an event, when a lost place has come back. Raises
        EvaluatorError if that fails."""
        until, room = time.monotonic() + timeout, self.room()
        if time.monotonic() < self._deadline:
            for process in self._running():
                process.answer()
        while True:
            self._read(self._pause(until))
            now = time.monotonic()
            if now >= self._deadline and not any(isinstance(e, Ended) for e in self._events):
                raise Cancelled
            if self._events or now >= until or self.room() > room or not self._is_busy():
                events, self._events = self._events, []
                return events

    def _is_busy(self) -> bool:
        """Whether anything can happen without another `submit`."""
        return bool(self._faults.held) or any(
            worker.running is not None or not worker.ready for worker in self._pool
        )

    def _pause(self, until: float) -> float:
        """How long to wait for a message: until the clock brings something."""
        if self._events or not self._is_busy():
            return 0.0
        now = time.monotonic()
        due = [process.due() for process in self._running()]
        until = min(until, self._deadline, self._faults.due(), now + _WAKE_SECONDS, *due)
        return max(0.0, until - now)

    def _read(self, timeout: float | None) -> None:
        """Read all messages there are, and wait for the first for up to `timeout` seconds.

        Only then look at the clock: the messages of evaluations that ended while the controller
        was busy are there, and were sent in time.
        """
        while ready := self._selector.select(timeout):
            for key, _ in ready:
                if isinstance(key.data, WorkerProcess):
                    self._read_channel(key.data)
                elif (reported := key.data.read()) is not None:
                    self._events.append(reported)
            timeout = 0
        now = time.monotonic()
        for process in self._running():
            if now > process.due():
                process.kill(f"timed out after {self.seconds:g} s")
        self._events += self._faults.settle(now)

    def _read_channel(self, worker: WorkerProcess) -> None:
        try:
            if (ended := worker.read()) is not None:
                self._end(worker, *ended)
        except WorkerDied as died:
            _log.info("worker process %d died", worker.process.pid)
            if worker.running is not None:
                self._end(worker, None, time.monotonic())
            self._replace(worker, died.code)

    def _end(self, worker: WorkerProcess, code: int | None, at: float) -> None:
        """The evaluation of a worker has ended."""
        assert worker.running is not None
        ended, crashed = worker.running.ended(code, at)
        worker.running = None
        device = self._device(worker.index)
        if crashed and device is not None and self._sharing(worker.index) > 1:
            self._faults.hold(worker.index, device, at, ended)
        else:
            self._events.append(ended)

    def _replace(self, worker: WorkerProcess, code: int) -> None:
        """Start another worker. A signal says nothing about the evaluator, an exit does."""
        if not worker.ready and (code >= 0 or worker.loads == LOADS):
            raise EvaluatorError(
                f"the evaluator's worker process ended with code {code} while it was loading"
            )
        worker.let_go()
        worker.await_end()
        self._pool[worker.index] = self._spawn(
            worker.index, 1 if worker.ready else worker.loads + 1
        )

    # -- the end -------------------------------------------------------------------------------

    def cancel(self, after: float = 0.0) -> None:
        """See Executor."""
        self._deadline = min(self._deadline, time.monotonic() + after)

    def close(self, keep: bool = False) -> None:
        """See Executor."""
        for worker in self._pool:
            worker.let_go()
        for worker in self._pool:
            worker.await_end()
        self._pool = []
