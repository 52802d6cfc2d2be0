"""The worker process of a slot: a local executor with one worker, and what it prints."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lm_searcher.tools.devices import SHARE
from lm_searcher.tools.executors.cluster.messages import Item, Work
from lm_searcher.tools.executors.local import LocalExecutor
from lm_searcher.tools.executors.make import memory_limit
from lm_searcher.tools.executors.protocol import Began, Ended
from lm_searcher.tools.executors.worker_pool import DEVICE_MEMORY
from lm_searcher.tools.protocols import Evaluation, Evaluator

LONGEST_OUTPUT = 2**16
"""Of the output between two looks, this much of the end is sent."""


@dataclass(frozen=True)
class _Pickled:
    """Stands for an evaluator that this process does not load: pickled, it is the evaluator."""

    content: bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self.content,)


class SlotWorker:
    """Evaluates as `work` says, on the slot's GPUs.

    `sharing` slots have room on this node: each gets that part of its processors and, without a
    GPU and a limit, of its memory.
    """

    def __init__(self, work: Work, sharing: int, gpus: tuple[str, ...]) -> None:
        self._work, self._sharing, self._gpus = work, sharing, gpus
        self._executor: LocalExecutor | None = None
        descriptor, path = tempfile.mkstemp(prefix="lm-searcher-slot-")
        os.close(descriptor)
        self._output, self._sent = Path(path), 0

    def does(self, work: Work, sharing: int) -> bool:
        """Whether it evaluates like this."""
        return (replace(work, orphan=self._work.orphan), sharing) == (self._work, self._sharing)

    def load(self) -> None:
        """Start the worker process, unless it is there. Raises EvaluatorError."""
        if self._executor is not None:
            return
        if os.path.isdir(self._work.folder):
            os.chdir(self._work.folder)
        sys.path += [p for p in self._work.path if p not in sys.path and os.path.exists(p)]
        evaluator: Any = _Pickled(self._work.evaluator)
        memory = self._work.memory
        if memory is None and not self._gpus:
            memory = memory_limit(self._sharing)
        self._executor = LocalExecutor(
            evaluator,
            seconds=self._work.seconds,
            memory=memory,
            log=self._output,
            environment=self._environment(),
        )

    def _environment(self) -> dict[str, str]:
        threads = math.ceil(self._work.cpus) or max(1, (os.cpu_count() or 1) // self._sharing)
        environment = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        if not self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""  # Ray hides no GPU from those who hold none
        elif self._work.gpus < 1:
            environment[SHARE] = str(DEVICE_MEMORY * self._work.gpus)
        return environment

    def submit(self, evaluation: Evaluation, attempt: int) -> None:
        """Begin an evaluation."""
        assert self._executor is not None
        while not self._executor.room():  # the worker was lost with the last one
            self._executor.poll(1.0)
        self._executor.submit(evaluation, attempt)

    def poll(self, timeout: float) -> list[Item]:
        """What became of it, and what it printed. Raises Cancelled and EvaluatorError."""
        assert self._executor is not None
        events = self._executor.poll(timeout)
        items: list[Item] = [event for event in events if not isinstance(event, Began)]
        ended = any(isinstance(item, Ended) for item in items)
        if (ended or not items) and (text := self._printed(ended)):
            items.insert(0, text)
        return items

    def _printed(self, ended: bool) -> str:
        """The output since the last call; `ended`: nothing more is written."""
        size = self._output.stat().st_size
        if size == self._sent:
            return ""
        start = max(self._sent, size - LONGEST_OUTPUT)
        with self._output.open("rb") as file:
            file.seek(start)
            text = file.read(size - start).decode(errors="replace")
        left_out = f"[... {start - self._sent} bytes]\n" if start > self._sent else ""
        self._sent = size
        if ended:
            os.truncate(self._output, 0)
            self._sent = 0
        return left_out + text

    def stop(self, key: int) -> None:
        """Have it end at its next report."""
        assert self._executor is not None
        self._executor.stop(key)

    def cancel(self) -> None:
        """Make `poll` raise Cancelled; safe in another thread."""
        if (executor := self._executor) is not None:
            executor.cancel()

    def close(self) -> None:
        """End the worker process with what it runs; `load` starts another."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.close()
        with contextlib.suppress(OSError):
            self._output.unlink()
        self._sent = 0


def pickled(evaluator: Evaluator) -> bytes:
    """What `Work` holds of an evaluator."""
    import cloudpickle

    content: bytes = cloudpickle.dumps(evaluator)
    return content
