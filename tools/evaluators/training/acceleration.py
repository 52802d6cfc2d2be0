"""Fewer and larger pieces of work for the device: compiled models and CUDA graphs.

Both are for the training step alone; validation runs the model itself. What a network decides in
Python, such as whether to drop a path, is decided once in a CUDA graph, where torch.compile
notices and compiles anew.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import numpy as np
import torch

# torch imports it, and half of sympy with it, at the first step of an optimizer: a second of
# processor time in every trial, unless the worker from which trials are forked has it already.
import torch._dynamo
from torch import Tensor, nn

Outputs = tuple[Tensor, ...]
"""The logits [n, classes], and those of the auxiliary head where there is one that counts."""

Run = Callable[[Tensor], Outputs]
"""A forward pass in training mode, however it is done."""


class Forward(nn.Module):
    """A network's forward pass with the auxiliary logits as a second output.

    A graph or a compiled function gives back what it returns; what it leaves in an attribute
    would be that of the first batch.
    """

    def __init__(self, model: nn.Module, auxiliary: bool) -> None:
        super().__init__()
        self.model, self.auxiliary = model, auxiliary

    def forward(self, images: Tensor) -> Outputs:
        """Images [n, c, h, w], normalised."""
        logits: Tensor = self.model(images)
        beside = getattr(self.model, "auxiliary_logits", None) if self.auxiliary else None
        return (logits,) if beside is None else (logits, beside)


def compiled(forward: Forward, device: torch.device) -> Run:
    """By torch.compile; on CUDA with its own CUDA graphs.

    Compiling takes tens of seconds a network, so this pays in long trainings only. What cannot
    be compiled runs as it is, and torch warns.
    """
    torch._dynamo.config.suppress_errors = True
    mode = "reduce-overhead" if device.type == "cuda" else None
    run: Run = torch.compile(forward, mode=mode)
    return run


def graphed(forward: Forward, images: Tensor) -> Run:
    """As one CUDA graph forward and one backward, recorded in a second; for this shape alone.

    To be called in the autocast context of the training. A network that draws random numbers on
    the processor, or that cannot be recorded, runs as it is, and a note says so.
    """
    buffers = [(buffer, buffer.clone()) for buffer in forward.buffers()]
    try:
        if draws_on_processor(forward, images):
            raise RuntimeError("the network draws random numbers outside the GPU")
        # A cell may have operations that lead nowhere, whose weights have no gradient.
        torch.cuda.make_graphed_callables(forward, (images,), allow_unused_input=True)
    except (RuntimeError, AssertionError) as error:
        print(f"cuda_graph: not recorded, going on without: {error}", file=sys.stderr)
    with torch.no_grad():  # batch norms have seen the images several times
        for buffer, before in buffers:
            buffer.copy_(before)
    return forward


def draws_on_processor(forward: nn.Module, images: Tensor) -> bool:
    """Whether a forward pass takes numbers from a generator of Python, NumPy or torch's CPU."""

    def states() -> tuple[object, ...]:
        numpy = np.random.get_state(legacy=False)["state"]
        ours = torch.get_rng_state().numpy().tobytes()
        return random.getstate(), numpy["key"].tobytes(), numpy["pos"], ours

    before = states()
    with torch.no_grad():
        forward(images)
    return states() != before
