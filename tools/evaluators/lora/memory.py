"""The peak memory of a trial."""

from __future__ import annotations

import resource
import sys

import psutil
import torch

_SLACK = 0.02
"""A process whose peak exceeds its present size by this share was larger before the trial."""


class Peak:
    """Measures the memory of the CUDA device, else of this process, since it was created."""

    def __init__(self) -> None:
        self.on_cuda = torch.cuda.is_available()
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats()
            return
        self.start = float(psutil.Process().memory_info().rss)
        self.measurable = resident_peak() <= (1 + _SLACK) * self.start

    def megabytes(self) -> float | None:
        """The peak in 10**6 bytes; None on a CPU if the process was larger before."""
        if self.on_cuda:
            return float(torch.cuda.max_memory_allocated()) / 1e6
        return max(0.0, resident_peak() - self.start) / 1e6 if self.measurable else None


def resident_peak() -> float:
    """The most bytes that this process has had in memory; a fork starts from its own size."""
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
