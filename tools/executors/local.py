"""Evaluations in worker processes on this machine."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lm_searcher.tools.executors.device_faults import DeviceFaults
from lm_searcher.tools.executors.outcome_check import is_crash
from lm_searcher.tools.executors.protocol import Began, Ended, Event
from lm_searcher.tools.executors.worker_pool import WorkerPool
from lm_searcher.tools.executors.worker_process import WorkerDied, WorkerProcess
from lm_searcher.tools.protocols import Cancelled, Evaluation, Evaluator

_WAKE_SECONDS = 0.5
"""The longest wait without a look at `cancel`."""


@dataclass
class LocalExecutor:
    """Worker processes, each of which forks a process for every evaluation.

    `seconds` is the wall-clock limit of one evaluation, `memory` the bytes it may allocate.
    Worker i sees the accelerator `devices[i % len(devices)]` alone. Workers on the same device
    get an equal share of its memory, and each a CUDA context of its own (about half a gigabyte).
    Evaluations in one process would wait for each other's Python code, and one that fails or runs
    out of memory would end the others; the GPU takes turns between processes unless NVIDIA's
    multi-process service runs (`nvidia-cuda-mps-control -d`). What evaluations print goes to the
    file `log`, or to this process's stderr; `environment` has further variables for them. Raises
    EvaluatorError if the evaluator does not start.

    A place is lost with a worker that is killed (another is started), with an evaluation that
    somebody else kills (the kernel, when memory runs out; see `is_lost`), and with several
    evaluations that crash on one device (see DeviceFaults).
    """

    evaluator: Evaluator
    workers: int = 1
    seconds: float | None = None
    memory: int | None = None
    devices: Sequence[str] = ()
    log: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    _faults: DeviceFaults = field(default_factory=DeviceFaults, init=False)
    _events: list[Event] = field(default_factory=list, init=False)
    _deadline: float = field(default=math.inf, init=False)

    def __post_init__(self) -> None:
        self._pool = WorkerPool(
            self.evaluator, self.workers, self.devices, self.log, self.environment
        )
        try:
            self._pool.start()
            while self._pool.loading:
                self._read(None)
        except BaseException:
            self.close()
            raise

    def room(self) -> int:
        """See Executor: the number of free workers."""
        return len(self._free())

    def _free(self) -> list[WorkerProcess]:
        held = self._faults.held
        return [w for w in self._pool if w.ready and w.running is None and w.index not in held]

    def submit(self, evaluation: Evaluation, attempt: int = 1) -> None:
        """See Executor. The device with the fewest evaluations gets it."""
        busy = Counter(self._pool.device(w.index) for w in self._pool if w.running)
        worker = min(self._free(), key=lambda w: busy[self._pool.device(w.index)])
        worker.start(evaluation, attempt, self.seconds, self.memory)
        if place := self._pool.place(worker.index):
            self._events.append(Began(evaluation.key, place))

    def stop(self, key: int) -> None:
        """See Executor."""
        for process in self._pool.running:
            if process.evaluation.key == key:
                process.stop()

    def poll(self, timeout: float) -> list[Event]:
        """See Executor. Returns without an event when a lost place is there again. Raises
        EvaluatorError if its worker does not start."""
        until, room = time.monotonic() + timeout, self.room()
        if time.monotonic() < self._deadline:
            for process in self._pool.running:
                process.answer()
        while True:
            self._read(self._pause(until))
            now = time.monotonic()
            if now >= self._deadline and not any(isinstance(e, Ended) for e in self._events):
                raise Cancelled
            if self._events or now >= until or self.room() > room or not self._is_busy():
                events, self._events = self._events, []
                return events

    def cancel(self, after: float = 0.0) -> None:
        """See Executor."""
        self._deadline = min(self._deadline, time.monotonic() + after)

    def close(self, keep: bool = False) -> None:
        """See Executor. Nothing outlives the controller, whatever `keep` says."""
        self._pool.close()

    # -- messages and clocks -------------------------------------------------------------------

    def _is_busy(self) -> bool:
        """Whether something can happen without another `submit`."""
        return bool(self._pool.running or self._pool.loading or self._faults.held)

    def _pause(self, until: float) -> float:
        """How long to wait for a message: until the clock brings something."""
        if self._events or not self._is_busy():
            return 0.0
        now = time.monotonic()
        due = [process.due() for process in self._pool.running]
        until = min(until, self._deadline, self._faults.due(), now + _WAKE_SECONDS, *due)
        return max(0.0, until - now)

    def _read(self, timeout: float | None) -> None:
        """Read all messages that are there; wait up to `timeout` seconds for the first.

        Only then look at the clock: the messages of evaluations that ended while the controller
        was busy were sent in time.
        """
        while ready := self._pool.selector.select(timeout):
            for key, _ in ready:
                if isinstance(key.data, WorkerProcess):
                    self._read_channel(key.data)
                elif (reported := key.data.read()) is not None:
                    self._events.append(reported)
            timeout = 0
        now = time.monotonic()
        for process in self._pool.running:
            if now > process.due():
                process.kill(f"timed out after {self.seconds:g} s")
        self._events += self._faults.settle(now)

    def _read_channel(self, worker: WorkerProcess) -> None:
        try:
            if (ended := worker.read()) is not None:
                self._end(worker, *ended)
        except WorkerDied:
            if worker.running is not None:
                self._end(worker, None, time.monotonic())
            self._pool.replace(worker)

    def _end(self, worker: WorkerProcess, code: int | None, at: float) -> None:
        """The evaluation of a worker has ended with an exit code, or with the worker (None)."""
        ended, device = worker.end(code, at), self._pool.device(worker.index)
        reason = ended.outcome.reason if ended.outcome else None
        shared = device is not None and self._pool.sharing(worker.index) > 1
        if device is not None and shared and reason is not None and is_crash(reason):
            self._faults.hold(worker.index, device, at, ended)
        else:
            self._events.append(ended)
