"""The networks of the macro space, in PyTorch: inverted residual blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from lm_searcher.spaces.macro.space import Block, blocks
from lm_searcher.spaces.space import Choice


def build(
    config: Mapping[str, Choice],
    *,
    in_channels: int,
    classes: int,
    strides: Sequence[int],
    stem: int,
    stem_stride: int,
    head: int,
    **_: Any,
) -> nn.Module:
    """A fresh network with random weights: images [n, in_channels, h, w] -> logits [n, classes].

    `config` is a configuration of `macro()`. Raises KeyError for one of another space.
    """
    layers: list[nn.Module] = [conv_bn(in_channels, stem, 3, stem_stride), nn.Hardswish()]
    last = stem
    for block in blocks(config, stem, strides):
        layers.append(InvertedResidual(block))
        last = block.outputs
    layers += [conv_bn(last, head, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(head, classes))


def conv_bn(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution whose padding keeps the size at stride 1, and an affine batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, optional squeeze-excite, project.

    The input is added if it has the output's shape.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        hidden = block.hidden
        layers: list[nn.Module] = [
            conv_bn(block.inputs, hidden, 1),
            nn.Hardswish(),
            conv_bn(hidden, hidden, block.kernel, block.stride, groups=hidden),
            nn.Hardswish(),
        ]
        if block.excites:
            layers.append(SqueezeExcite(hidden, block.squeezed))
        self.body = nn.Sequential(*layers, conv_bn(hidden, block.outputs, 1))
        self.adds = block.stride == 1 and block.inputs == block.outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.adds else y


class SqueezeExcite(nn.Module):
    """Scales each channel by a function of the means of all channels (arXiv 1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = x * self.gate(x)
        return scaled
