"""The network of a NAS-Bench-201 cell (arXiv 2001.00326, figure 1), in PyTorch.

Stem, three stages of equal cells at widths C, 2C, 4C, a residual block that halves the image
between two stages, batch norm, global average pooling, one linear layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lm_searcher.spaces.nb201.space import EDGES, edge_name
from lm_searcher.spaces.space import Choice

_OUTPUT = 3


def build(
    config: Mapping[str, Choice],
    *,
    in_channels: int,
    classes: int,
    channels: int = 16,
    cells: int = 5,
) -> nn.Module:
    """A fresh network with random weights: images [n, in_channels, h, w] -> logits [n, classes].

    `config` is a configuration of `nb201()`. Raises KeyError for one of another space.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
    ]
    for stage in range(3):
        width = channels * 2**stage
        if stage:
            layers.append(ReductionBlock(width // 2, width))
        layers += [Cell(config, width) for _ in range(cells)]
    last = channels * 4
    layers += [nn.BatchNorm2d(last), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(last, classes))


def relu_conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """The benchmark's convolution: ReLU, then convolution, then an affine batch norm."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


def operation(name: Choice, channels: int) -> nn.Module:
    """The module of one edge. Raises KeyError for an unknown name, and for "none"."""
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)
    kernels = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
    return relu_conv_bn(channels, channels, kernels[str(name)])


class Cell(nn.Module):
    """Four nodes, each the sum of its edges: [n, channels, h, w] -> the same shape."""

    def __init__(self, config: Mapping[str, Choice], channels: int) -> None:
        super().__init__()
        self.edges: list[tuple[int, int]] = []
        self.operations = nn.ModuleList()
        for edge in EDGES:
            name = config[edge_name(edge)]
            if name != "none":
                self.edges.append(edge)
                self.operations.append(operation(name, channels))

    def forward(self, x: Tensor) -> Tensor:
        nodes = {0: x}
        for (target, source), operate in zip(self.edges, self.operations, strict=True):
            # A node without incoming edges is zero. The operations that read it still run, as in
            # the published networks: their batch norms have biases.
            term = operate(nodes[source] if source in nodes else torch.zeros_like(x))
            nodes[target] = nodes[target] + term if target in nodes else term
        return nodes[_OUTPUT] if _OUTPUT in nodes else torch.zeros_like(x)


class ReductionBlock(nn.Module):
    """A residual block that halves the image: [n, inputs, h, w] -> [n, outputs, h/2, w/2]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            relu_conv_bn(inputs, outputs, 3, stride=2), relu_conv_bn(outputs, outputs, 3)
        )
        # ceil_mode fits images with an odd side to the convolution's output; it does not change
        # even sides.
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(inputs, outputs, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.shortcut(x) + self.body(x)
        return halved
