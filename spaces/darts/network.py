"""The network of two DARTS cells (arXiv 1806.09055, appendix A), in PyTorch.

Stem, a stack of cells, global average pooling, one linear layer. All operations are as in the
paper's evaluation: affine batch norm, pooling without one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_searcher.spaces.darts.cells import CELLS, Node, nodes_of, reductions
from lm_searcher.spaces.darts.cost import AUXILIARY
from lm_searcher.spaces.space import Choice


def build(
    config: Mapping[str, Choice],
    *,
    in_channels: int,
    classes: int,
    channels: int = 36,
    cells: int = 20,
    auxiliary: bool = False,
    drop_path: float = 0.0,
) -> Network:
    """A fresh network with random weights: images [n, in_channels, h, w] -> logits [n, classes].

    `config` maps each position of `darts()` to its option. Raises KeyError for others.
    """
    return Network(config, in_channels, classes, channels, cells, auxiliary, drop_path)


class Network(nn.Module):
    """With `auxiliary`, a forward pass in training mode leaves the second classifier's logits
    [n, classes] in `auxiliary_logits` (the paper adds 0.4 times their loss); else that is None.
    The probability to drop a path rises over the epochs, as in the paper, where the training
    calls `begin_epoch`.
    """

    def __init__(
        self,
        config: Mapping[str, Choice],
        in_channels: int,
        classes: int,
        channels: int,
        cells: int,
        auxiliary: bool,
        drop_path: float,
    ) -> None:
        super().__init__()
        normal, reduce = (nodes_of(config, cell) for cell in CELLS)
        before = previous = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, previous, 3, padding=1, bias=False), nn.BatchNorm2d(previous)
        )
        self.cells = nn.ModuleList()
        self.head: nn.Module | None = None
        self.head_after = 2 * cells // 3
        self.auxiliary_logits: Tensor | None = None
        width, places = channels, reductions(cells)
        for cell in range(cells):
            halves = cell in places
            width *= 2 if halves else 1
            nodes = reduce if halves else normal
            self.cells.append(Cell(nodes, before, previous, width, halves, cell - 1 in places))
            before, previous = previous, 4 * width
            if auxiliary and cell == self.head_after:
                self.head = AuxiliaryHead(previous, classes)
        self.classifier = nn.Linear(previous, classes)
        self.drop_path = drop_path
        self.set_drop_path(drop_path)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Before epoch `epoch` of `epochs`, from 1: the paths drop with a share of `drop_path`."""
        self.set_drop_path(self.drop_path * (epoch - 1) / epochs)

    def set_drop_path(self, probability: float) -> None:
        """From now on; an operation's result is dropped for a whole image, in training only."""
        for cell in self.cells:
            assert isinstance(cell, Cell)
            cell.drop_path = probability

    def forward(self, x: Tensor) -> Tensor:
        before = previous = self.stem(x)
        self.auxiliary_logits = None
        for place, cell in enumerate(self.cells):
            before, previous = previous, cell(before, previous)
            if self.training and self.head is not None and place == self.head_after:
                self.auxiliary_logits = self.head(previous)
        logits: Tensor = self.classifier(previous.mean((2, 3)))
        return logits


class Cell(nn.Module):
    """Outputs of the two cells before -> four nodes' results side by side, 4 x `channels`."""

    def __init__(
        self,
        nodes: list[Node],
        before: int,
        previous: int,
        channels: int,
        halves: bool,
        halved_before: bool,
    ) -> None:
        super().__init__()
        self.channels, self.halves, self.drop_path = channels, halves, 0.0
        self.before = Halve(before, channels) if halved_before else relu_conv_bn(before, channels)
        self.previous = relu_conv_bn(previous, channels)
        self.sources: list[list[int]] = []
        self.operations = nn.ModuleList()
        for node in nodes:
            live = [(name, source) for name, source in node if name != "none"]
            self.sources.append([source for _, source in live])
            for name, source in live:
                self.operations.append(operation(name, channels, halves and source < 2))

    def forward(self, before: Tensor, previous: Tensor) -> Tensor:
        states = [self.before(before), self.previous(previous)]
        operations = iter(self.operations)
        for sources in self.sources:
            terms = [self._drop(op, op(states[s])) for s, op in zip(sources, operations)]  # noqa: B905
            states.append(sum(terms[1:], terms[0]) if terms else self._zeros(states[1]))
        return torch.cat(states[2:], dim=1)

    def _zeros(self, x: Tensor) -> Tensor:
        # What reads a zero node still runs: its batch norms have biases.
        step = 2 if self.halves else 1
        return torch.zeros_like(x[:, :, ::step, ::step])

    def _drop(self, op: nn.Module, x: Tensor) -> Tensor:
        if not self.training or not self.drop_path or isinstance(op, nn.Identity):
            return x
        keep = 1 - self.drop_path
        return x * torch.empty_like(x[:, :1, :1, :1]).bernoulli_(keep) / keep


def relu_conv_bn(inputs: int, outputs: int) -> nn.Module:
    """What brings a cell's input to its width."""
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
    )


def operation(name: str, channels: int, halves: bool) -> nn.Module:
    """The module of one edge. Raises KeyError for a name that is no operation with a module."""
    stride = 2 if halves else 1
    if name == "skip_connect":
        return Halve(channels, channels) if halves else nn.Identity()
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, padding=1)
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    kernel = {"sep_conv_3x3": 3, "sep_conv_5x5": 5, "dil_conv_3x3": 3, "dil_conv_5x5": 5}[name]
    if name.startswith("dil"):
        return nn.Sequential(*depthwise(channels, kernel, stride, dilation=2))
    return nn.Sequential(*depthwise(channels, kernel, stride), *depthwise(channels, kernel, 1))


def depthwise(channels: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    """ReLU, one convolution a channel, one across channels, batch norm."""
    padding = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(
            channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
        ),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    ]


class Halve(nn.Module):
    """The paper's factorised reduction: half of the channels from the even pixels, half from
    the odd ones. An odd side gets a row and a column of zeros."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(x)
        height, width = x.shape[2:]
        shifted = functional.pad(x, (0, width % 2, 0, height % 2))[:, :, 1:, 1:]
        halved: Tensor = self.norm(torch.cat([self.even(x), self.odd(shifted)], dim=1))
        return halved


class AuxiliaryHead(nn.Module):
    """The second classifier. The paper's pooling is for 8x8; other sides come to 2x2 as well."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        one, other = AUXILIARY
        self.first = nn.Sequential(nn.Conv2d(inputs, one, 1, bias=False), nn.BatchNorm2d(one))
        self.second = nn.Sequential(nn.Conv2d(one, other, 2, bias=False), nn.BatchNorm2d(other))
        self.classifier = nn.Linear(other, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(x)
        if x.shape[2:] == (8, 8):
            x = functional.avg_pool2d(x, 5, stride=3)
        else:
            x = functional.adaptive_avg_pool2d(x, 2)
        x = functional.relu(self.second(functional.relu(self.first(x))))
        logits: Tensor = self.classifier(x.flatten(1))
        return logits
