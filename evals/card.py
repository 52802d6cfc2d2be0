"""The rates of a GPU, and the bytes that a network's training moves."""

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
    """The mean time of some work on the GPU, after a warm-up."""
    for count in (3, repeats):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(count):
            work()
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / repeats


def matmul_rate(size: int = 8192) -> float:
    """Operations per second of a large product of bfloat16 matrices; a multiply-add counts as 2."""
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds_of(lambda: a @ b)


def bandwidth(size: int = 2**30) -> float:
    """Bytes per second, read and written, of a large copy."""
    source = torch.empty(size, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * size / seconds_of(lambda: target.copy_(source))


class BytesMoved(TorchDispatchMode):
    """Counts the bytes that operations other than views read and write, in `total`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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
    """Bytes that the operations of one forward and backward pass move; bfloat16 on CUDA.

    Savings by caches are not included.
    """
    model.train()
    on_cuda = images.device.type == "cuda"
    with BytesMoved() as moved:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=on_cuda):
            logits = model(images)
        loss = functional.cross_entropy(logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
    return int(moved.total)
