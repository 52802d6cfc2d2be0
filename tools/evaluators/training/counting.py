"""What a model costs, counted on the model itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_flops(model: nn.Module, example: Tensor) -> int:
    """Operations of one forward pass over `example`, counted by PyTorch: 2 for a multiply-add."""
    counter = FlopCounterMode(display=False)
    model.eval()
    # The counter does not know the CPU's fused attention, and with a GPU's it counts padding.
    # Attention by plain matrix products is counted exactly on any device.
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(example)
    return int(counter.get_total_flops())
