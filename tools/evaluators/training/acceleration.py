"""Fewer and larger pieces of work for the device: compiled models and CUDA graphs.

Both are used for the training step alone; validation runs the model itself. A branch in Python,
such as a dropped path, is recorded once in a CUDA graph and never taken again; torch.compile
notices it and compiles anew.
"""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable

import numpy as np
import torch

# torch imports this module, and half of sympy with it, at the first step of an optimizer. That
# takes a second of processor time in each trial unless the worker has imported it before it forks.
import torch._dynamo
from torch import Tensor, nn

_log = logging.getLogger("lm_searcher.training")

Outputs = tuple[Tensor, ...]
"""The logits [n, classes], and those of the auxiliary head if its loss counts."""

ForwardPass = Callable[[Tensor], Outputs]
"""From normalised images [n, c, h, w] to the outputs, in training mode."""


class Forward(nn.Module):
    """A network's forward pass with the auxiliary logits as a second output.

    A CUDA graph and a compiled function repeat what a module returns; an attribute that it sets
    would keep the value of the first batch.
    """

    def __init__(self, model: nn.Module, auxiliary: bool) -> None:
        super().__init__()
        self.model, self.auxiliary = model, auxiliary

    def forward(self, images: Tensor) -> Outputs:
        """Normalised images [n, c, h, w] to the outputs."""
        logits: Tensor = self.model(images)
        beside = getattr(self.model, "auxiliary_logits", None) if self.auxiliary else None
        return (logits,) if beside is None else (logits, beside)


def compiled(forward: Forward, device: torch.device) -> ForwardPass:
    """The forward pass by torch.compile, which on CUDA also records CUDA graphs.

    Compiling takes tens of seconds a network, so it pays in long trainings only. A part that
    cannot be compiled runs uncompiled, with a warning from torch.
    """
    torch._dynamo.config.suppress_errors = True
    mode = "reduce-overhead" if device.type == "cuda" else None
    compiled_forward: ForwardPass = torch.compile(forward, mode=mode)
    return compiled_forward


def graphed(forward: Forward, images: Tensor) -> ForwardPass:
    """The forward and the backward pass as one CUDA graph each, for batches of this shape only.

    Call it in the autocast context of the training; it takes about a second. A network that draws
    random numbers on the processor, or that cannot be recorded, is returned unchanged, with a
    message on stderr.
    """
    buffers = [(buffer, buffer.clone()) for buffer in forward.buffers()]
    try:
        if draws_on_processor(forward, images):
            raise RuntimeError("the network draws random numbers outside the GPU")
        # A cell may have operations that lead nowhere; their weights have no gradient.
        torch.cuda.make_graphed_callables(forward, (images,), allow_unused_input=True)
    except (RuntimeError, AssertionError) as error:
        _log.debug("CUDA graph not recorded", exc_info=True)
        print(f"cuda_graph: not recorded, going on without: {error}", file=sys.stderr)
    with torch.no_grad():  # recording ran the batch norms on `images` several times
        for buffer, before in buffers:
            buffer.copy_(before)
    return forward


def draws_on_processor(forward: nn.Module, images: Tensor) -> bool:
    """Whether a forward pass uses a random generator of Python, NumPy or torch on the CPU.

    Its numbers would be drawn once, at the recording of a CUDA graph.
    """

    def states() -> tuple[object, ...]:
        numpy = np.random.get_state(legacy=False)["state"]
        torch_cpu = torch.get_rng_state().numpy().tobytes()
        return random.getstate(), numpy["key"].tobytes(), numpy["pos"], torch_cpu

    before = states()
    with torch.no_grad():
        forward(images)
    return states() != before
