"""The cost of a DARTS network, without building it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lm_searcher.spaces.darts.cells import CELLS, nodes_of, reductions
from lm_searcher.spaces.space import Choice

AUXILIARY = (128, 768)
"""Widths of the second classifier's two convolutions."""

# Kernel, and number of pairs of a depthwise and a pointwise convolution.
_CONVOLUTIONS = {
    "sep_conv_3x3": (3, 2), "sep_conv_5x5": (5, 2), "dil_conv_3x3": (3, 1), "dil_conv_5x5": (5, 1),
}  # fmt: skip


@dataclass
class _Total:
    parameters: int = 0
    multiply_adds: int = 0

    def convolution(self, weights: int, channels: int, side: int) -> None:
        """Convolutions without biases, and one batch norm of `channels`."""
        self.parameters += weights + 2 * channels
        self.multiply_adds += weights * side**2

    def operation(self, name: str, channels: int, side: int, halves: bool) -> None:
        """One edge; `side` is the side of its result."""
        if name in _CONVOLUTIONS:
            kernel, times = _CONVOLUTIONS[name]
            for _ in range(times):
                self.convolution(kernel**2 * channels + channels**2, channels, side)
        elif name == "skip_connect" and halves:
            self.convolution(channels**2, channels, side)


def cost(
    config: Mapping[str, Choice],
    *,
    in_channels: int = 3,
    classes: int = 10,
    image_size: int = 32,
    channels: int = 36,
    cells: int = 20,
    auxiliary: bool = False,
    **_: Any,
) -> dict[str, float]:
    """``params_m``, with the auxiliary head if any, and ``flops_m`` of a square image, both exact.

    FLOPs as PyTorch's FlopCounterMode counts them in evaluation, without the auxiliary head.
    """
    normal, reduce = (nodes_of(config, cell) for cell in CELLS)
    total, width, side = _Total(), channels, image_size
    before = previous = 3 * channels
    total.convolution(9 * in_channels * previous, previous, side)
    for cell in range(cells):
        halves = cell in reductions(cells)
        width *= 2 if halves else 1
        for inputs in (before, previous):
            total.convolution(inputs * width, width, side)
        side = (side + 1) // 2 if halves else side
        for node in reduce if halves else normal:
            for name, source in node:
                total.operation(name, width, side, halves and source < 2)
        before, previous = previous, 4 * width
        if auxiliary and cell == 2 * cells // 3:
            one, other = AUXILIARY
            total.parameters += previous * one + 4 * one * other + 2 * (one + other)
            total.parameters += other * classes + classes
    parameters = total.parameters + previous * classes + classes
    multiply_adds = total.multiply_adds + previous * classes
    return {"params_m": parameters / 1e6, "flops_m": 2 * multiply_adds / 1e6}
