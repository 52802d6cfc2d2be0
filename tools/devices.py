"""The device that a trial trains on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SHARE = "LM_SEARCHER_DEVICE_SHARE"
"""The variable by which the executor tells a worker its share of the accelerator's memory, where
others work on the same one."""


def trial_device() -> torch.device:
    """The GPU that this process sees, else the CPU.

    Of a GPU with several workers a trial gets its share of the memory and no more: one that is
    too large runs out of memory itself, rather than whoever asks next.
    """
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    if share := os.environ.get(SHARE):
        torch.cuda.set_per_process_memory_fraction(float(share))
    return torch.device("cuda")
