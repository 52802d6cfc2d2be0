"""What a GPU can do and what a network asks of it: rates, and bytes moved."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def seconds_of(work: Callable[[], object], repeats: int = 20) -> float:
    """The mean time of a piece of work for the GPU, after it has been done once."""
    for count in (3, repeats):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(count):
            work()
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / repeats


def matmul_rate(size: int = 8192) -> float:
    """Operations a second of a large product of bfloat16 matrices, a multiply-add as two."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds_of(lambda: a @ b)


def bandwidth(size: int = 2**30) -> float:
    """Bytes a second of a large copy, read and written."""
    source = torch.empty(size, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * size / seconds_of(lambda: target.copy_(source))


class BytesMoved(TorchDispatchMode):
    """Counts what each operation reads and writes, views left out: `total`."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        returned = [r.alias_info for r in func._schema.returns]
        if not any(info is not None and not info.is_write for info in returned):
            tensors = tree_leaves((args, kwargs, out))
            self.total += sum(t.nbytes for t in tensors if isinstance(t, Tensor))
        return out


def step_bytes(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """Bytes that one forward and backward pass moves, one operation after the other; bfloat16 on
    CUDA. What caches save is not seen."""
    model.train()
    on_cuda = images.device.type == "cuda"
    with BytesMoved() as moved:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=on_cuda):
            logits = model(images)
        functional.cross_entropy(logits.float(), labels).backward()
    return moved.total
