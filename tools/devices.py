"""The accelerators of this machine, and the device that a trial trains on."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SHARE = "LM_SEARCHER_DEVICE_SHARE"
"""Environment variable of a worker: its share, in (0, 1], of the memory of an accelerator that
several workers use."""


def visible_devices() -> list[str]:
    """The CUDA numbers of this machine's accelerators, as text, without loading a framework."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [d.strip() for d in listed.split(",") if d.strip() not in ("", "-1")]
    with contextlib.suppress(OSError):
        found = [n[6:] for n in os.listdir("/dev") if n.startswith("nvidia") and n[6:].isdigit()]
        return sorted(found, key=int)
    return []


def mixed_precision(device: torch.device, *, cache: bool = True) -> torch.autocast:
    """Matrix products in bfloat16 on CUDA; on the CPU no change.

    `cache` keeps cast weights until the context ends, which a CUDA graph must not record.
    """
    import torch

    return torch.autocast(
        device.type, torch.bfloat16, enabled=device.type == "cuda", cache_enabled=cache
    )


def trial_device() -> torch.device:
    """The GPU that this process sees, else the CPU.

    If several workers use the GPU, the process is limited to its share of the memory, so that a
    trial that needs too much fails itself and not whichever trial allocates next.
    """
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    if share := os.environ.get(SHARE):
        torch.cuda.set_per_process_memory_fraction(float(share))
    return torch.device("cuda")
