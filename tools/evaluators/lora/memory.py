"""The most memory that a trial took."""

from __future__ import annotations

import resource
import sys

import psutil
import torch

_SLACK = 0.02
"""A process whose peak lies this much above its present size has been larger before."""


class Peak:
    """Measures from its making on: the CUDA device, else this process."""

    def __init__(self) -> None:
        self.on_cuda = torch.cuda.is_available()
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats()
            return
        self.start = float(psutil.Process().memory_info().rss)
        self.known = resident_peak() <= (1 + _SLACK) * self.start

    def megabytes(self) -> float | None:
        """Since then, in 10^6 bytes; None on a CPU where an earlier peak hides the answer."""
        if self.on_cuda:
            return float(torch.cuda.max_memory_allocated()) / 1e6
        return max(0.0, resident_peak() - self.start) / 1e6 if self.known else None


def resident_peak() -> float:
    """The most bytes this process has had in memory. A forked one starts anew."""
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
