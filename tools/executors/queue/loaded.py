"""The evaluators that a worker has loaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from lm_searcher.tools.executors.local import LocalExecutor
from lm_searcher.tools.executors.make import memory_limit
from lm_searcher.tools.protocols import Evaluator

MOST = 3
"""Evaluators that a worker keeps loaded, each in a process of its own."""


@dataclass(frozen=True)
class Work:
    """How the trials of a run are evaluated."""

    name: str
    """The run's."""
    evaluator: Evaluator
    seconds: float | None = None
    memory: int | None = None
    """Bytes; None: nine tenths of the machine's memory, without limit on a GPU."""


class Loaded:
    """One-worker executors, by the controller whose trials they evaluate: a controller that takes
    a run over may have other settings. The one that was not used for longest goes first.

    `device` is the CUDA number of the GPU that all of them use; None hides all GPUs.
    """

    def __init__(self, device: str | None) -> None:
        self.device = device
        self._executors: dict[str, tuple[Work, LocalExecutor]] = {}

    def get(self, controller: str, make: Callable[[], Work]) -> tuple[Work, LocalExecutor]:
        """The executor of a controller, ready for an evaluation. Raises UserError."""
        found = self._executors.pop(controller, None)
        if found is None:
            while len(self._executors) >= MOST:
                self.drop(next(iter(self._executors)))
            work = make()
            found = work, self._load(work)
        self._executors[controller] = found
        executor = found[1]
        executor.poll(0.0)  # its process may have died meanwhile
        while not executor.room():
            executor.poll(1.0)
        return found

    def _load(self, work: Work) -> LocalExecutor:
        memory = work.memory
        if memory is None and self.device is None:
            memory = memory_limit(1)
        return LocalExecutor(
            work.evaluator,
            seconds=work.seconds,
            memory=memory,
            devices=[] if self.device is None else [self.device],
            environment=self._environment(),
        )

    def _environment(self) -> dict[str, str]:
        """A scheduler gives a worker a share of the machine's processors."""
        share = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
        environment = {name: os.environ.get(name, str(share)) for name in names}
        return environment if self.device else environment | {"CUDA_VISIBLE_DEVICES": ""}

    def drop(self, controller: str) -> None:
        """End an executor with what it evaluates."""
        if (found := self._executors.pop(controller, None)) is not None:
            found[1].close()

    def close(self) -> None:
        """End all."""
        for controller in list(self._executors):
            self.drop(controller)
