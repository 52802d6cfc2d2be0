"""The executor that suits an evaluator and this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lm_searcher.tools.devices import visible_devices
from lm_searcher.tools.executors.inline import InlineExecutor
from lm_searcher.tools.executors.local import LocalExecutor
from lm_searcher.tools.executors.protocol import Executor
from lm_searcher.tools.protocols import Evaluator


def make_executor(
    evaluator: Evaluator,
    workers: int = 1,
    seconds: float | None = None,
    memory: int | None = None,
    devices: Sequence[str] = (),
    log: Path | None = None,
) -> Executor:
    """Inline for an inline evaluator, else worker processes; see LocalExecutor for the options.

    Without `devices`, all accelerators of the machine. Raises UserError if the evaluator does
    not start.
    """
    if evaluator.inline:
        return InlineExecutor(evaluator, workers)
    devices = list(devices) or visible_devices()
    if memory is None and not devices:  # an accelerator's driver maps more than it uses
        memory = memory_limit(workers)
    return LocalExecutor(evaluator, workers, seconds, memory, devices, log)


def memory_limit(workers: int) -> int:
    """Bytes that one of `workers` evaluations may allocate: an equal share of nine tenths."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(0.9 * total / workers)
