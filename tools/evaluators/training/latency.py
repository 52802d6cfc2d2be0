"""What a model costs on this device: the time for one image, and memory."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lm_searcher.tools.devices import mixed_precision, visible_devices

if TYPE_CHECKING:
    from torch import nn

WARM_UP, TIMED = 10, 51
"""Forward passes before the timed ones (kernels are chosen, caches filled), and timed ones."""


def latency_ms(model: nn.Module, shape: Sequence[int], warm_up: int = WARM_UP) -> float:
    """Milliseconds of a forward pass over one image of `shape`, on the model's device.

    The median of timed passes; an accelerator has finished each before the clock is read. On a
    CPU the latency depends on the trial's number of threads and on what else runs.
    """
    import torch

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    image = torch.zeros(1, *shape, device=device)
    if device.type == "cuda":
        image = image.contiguous(memory_format=torch.channels_last)
    was_training = model.training
    model.eval()
    seconds = []
    with torch.no_grad(), mixed_precision(device):
        for _ in range(warm_up + TIMED):
            began = time.perf_counter()
            model(image)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - began)
    model.train(was_training)
    return 1e3 * statistics.median(seconds[warm_up:])


def peak_memory() -> dict[str, float]:
    """`memory_mb`: the most that tensors of this process, which is the trial's, held on its CUDA
    device, in 2**20 bytes; empty without such a device."""
    import torch

    if not torch.cuda.is_available():
        return {}
    return {"memory_mb": torch.cuda.max_memory_allocated() / 2**20}


def device_name() -> str:
    """The name of the device that latency is measured on: the accelerator, else the processor.

    Read from the system, since CUDA would keep memory on the device once it is asked.
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
