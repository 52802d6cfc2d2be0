"""The worker processes of an executor, and the device of each."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from selectors import BaseSelector, DefaultSelector

from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.tools.devices import SHARE
from lm_searcher.tools.executors.evaluation_process import EvaluationProcess
from lm_searcher.tools.executors.worker_process import WorkerProcess
from lm_searcher.tools.protocols import Evaluator

DEVICE_MEMORY = 0.9
"""The part of an accelerator's memory that its workers share; CUDA's own contexts take the rest."""

LOADS = 3
"""How often a place's worker is started that is killed while it loads."""

_log = logging.getLogger("lm_searcher.executors")


@dataclass
class WorkerPool:
    """`size` workers that load the evaluator; worker i sees `devices[i % len(devices)]` alone.

    `selector` watches their sockets; its keys' data are WorkerProcesses and EvaluationProcesses.
    """

    evaluator: Evaluator
    size: int
    devices: Sequence[str]
    log: Path | None
    environment: Mapping[str, str]
    selector: BaseSelector = field(default_factory=DefaultSelector)
    _workers: list[WorkerProcess] = field(default_factory=list)

    def start(self) -> None:
        """Start the workers, which then load."""
        for index in range(self.size):
            self._workers.append(self._spawn(index))

    def __iter__(self) -> Iterator[WorkerProcess]:
        return iter(self._workers)

    def device(self, index: int) -> str | None:
        """The CUDA number of the device of worker `index`."""
        return self.devices[index % len(self.devices)] if self.devices else None

    def sharing(self, index: int) -> int:
        """How many workers use the device of worker `index`."""
        return [self.device(i) for i in range(self.size)].count(self.device(index))

    def place(self, index: int) -> str:
        """What users are told of where worker `index` runs."""
        if self.devices:
            return f"gpu {self.device(index)}"
        return f"worker {index}" if self.size > 1 else ""

    @property
    def loading(self) -> bool:
        """Whether a worker is not ready yet."""
        return not all(worker.ready for worker in self._workers)

    @property
    def running(self) -> list[EvaluationProcess]:
        """The evaluations that run."""
        return [worker.running for worker in self._workers if worker.running is not None]

    def replace(self, worker: WorkerProcess) -> None:
        """Start another worker in place of one that has died.

        Raises EvaluatorError for one that exited while it was loading, or that was killed then
        for the third time: a signal says nothing about the evaluator, an exit does.
        """
        code = worker.process.wait()
        _log.info("worker process %d ended with code %d", worker.process.pid, code)
        if not worker.ready and (code >= 0 or worker.loads == LOADS):
            raise EvaluatorError(
                f"the evaluator's worker process ended with code {code} while it was loading"
            )
        worker.let_go()
        loads = 1 if worker.ready else worker.loads + 1
        self._workers[worker.index] = self._spawn(worker.index, loads)

    def close(self) -> None:
        """End all workers and what they run."""
        for worker in self._workers:
            worker.let_go()
        for worker in self._workers:
            worker.await_end()
        self._workers = []

    def _spawn(self, index: int, loads: int = 1) -> WorkerProcess:
        environment = self._environment(index)
        return WorkerProcess.spawn(
            self.evaluator, environment, self.log, self.selector, index, loads
        )

    def _environment(self, index: int) -> dict[str, str]:
        """The variables of worker `index`: its share of the threads, its device, the path."""
        threads = str(max(1, (os.cpu_count() or 1) // self.size))
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        if (device := self.device(index)) is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
            if (sharing := self.sharing(index)) > 1:
                environment[SHARE] = str(DEVICE_MEMORY / sharing)
        return environment | dict(self.environment)
