"""What a model costs on this device: the time that one image takes, and memory."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lm_searcher.tools.devices import visible_devices

if TYPE_CHECKING:
    from torch import nn

WARM_UP, TIMED = 10, 51
"""Passes that only warm up (kernels are chosen, caches filled), and those that are timed."""


def latency_ms(model: nn.Module, shape: Sequence[int], warm_up: int = WARM_UP) -> float:
    """Milliseconds of one forward pass over one image of that shape, where the model is.

    The median of timed passes, each alone: an accelerator has finished before the clock is read.
    On a CPU it is the latency of as many threads as the trial has, beside whatever else runs.
    """
    import torch

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    image = torch.zeros(1, *shape, device=device)
    if device.type == "cuda":
        image = image.contiguous(memory_format=torch.channels_last)
    was_training = model.training
    model.eval()
    seconds = []
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    with torch.no_grad(), autocast:
        for _ in range(warm_up + TIMED):
            began = time.perf_counter()
            model(image)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - began)
    model.train(was_training)
    return 1e3 * statistics.median(seconds[warm_up:])


def peak_memory() -> dict[str, float]:
    """`memory_mb`: the most that tensors of this process held on its CUDA device; none without
    one. A trial has a process of its own."""
    import torch

    if not torch.cuda.is_available():
        return {}
    return {"memory_mb": torch.cuda.max_memory_allocated() / 2**20}


def device_name() -> str:
    """What latency is measured on: the accelerator's name, else the processor's.

    Read from the system: asking CUDA would claim memory on the device for good.
    """
    if visible_devices():
        for place in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
            for line in place.read_text().splitlines():
                if line.startswith("Model:"):
                    return line.removeprefix("Model:").strip()
        return "accelerator"
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
