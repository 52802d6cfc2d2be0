"""The network of two DARTS cells (arXiv 1806.09055, appendix A), in PyTorch.

Stem, a stack of cells, global average pooling, one linear layer. The operations are those of the
paper's evaluation: batch norms are affine, pooling has none.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_searcher.spaces.darts.cells import CELLS, Node, nodes_of, reductions
from lm_searcher.spaces.darts.cost import AUXILIARY
from lm_searcher.spaces.darts.operations import Halve, operation, relu_conv_bn
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

    `config` is a configuration of `darts()`. Raises KeyError for one of another space.
    """
    return Network(config, in_channels, classes, channels, cells, auxiliary, drop_path)


class Network(nn.Module):
    """A DARTS network.

    With `auxiliary`, a forward pass in training mode stores the second classifier's logits
    [n, classes] in `auxiliary_logits` (the paper adds 0.4 times their loss); otherwise it is None.
    If the training calls `begin_epoch`, the probability to drop a path rises over the epochs, as
    in the paper.
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
        width, reduced = channels, reductions(cells)
        for cell in range(cells):
            halves = cell in reduced
            width *= 2 if halves else 1
            nodes = reduce if halves else normal
            self.cells.append(Cell(nodes, before, previous, width, halves, cell - 1 in reduced))
            before, previous = previous, 4 * width
            if auxiliary and cell == self.head_after:
                self.head = AuxiliaryHead(previous, classes)
        self.classifier = nn.Linear(previous, classes)
        self.drop_path = drop_path
        self.set_drop_path(drop_path)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Before epoch `epoch` (from 1) of `epochs`: scale the probability to drop a path."""
        self.set_drop_path(self.drop_path * (epoch - 1) / epochs)

    def set_drop_path(self, probability: float) -> None:
        """Set the probability; in training, an operation's result is dropped for a whole image."""
        for cell in self.cells:
            assert isinstance(cell, Cell)
            cell.drop_path = probability

    def forward(self, x: Tensor) -> Tensor:
        before = previous = self.stem(x)
        self.auxiliary_logits = None
        for index, cell in enumerate(self.cells):
            before, previous = previous, cell(before, previous)
            if self.training and self.head is not None and index == self.head_after:
                self.auxiliary_logits = self.head(previous)
        logits: Tensor = self.classifier(previous.mean((2, 3)))
        return logits


class Cell(nn.Module):
    """Outputs of the two previous cells -> concatenated results of four nodes, 4 x `channels`."""

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
        # The operations that read a zero node still run: their batch norms have biases.
        step = 2 if self.halves else 1
        return torch.zeros_like(x[:, :, ::step, ::step])

    def _drop(self, op: nn.Module, x: Tensor) -> Tensor:
        if not self.training or not self.drop_path or isinstance(op, nn.Identity):
            return x
        keep = 1 - self.drop_path
        return x * torch.empty_like(x[:, :1, :1, :1]).bernoulli_(keep) / keep


class AuxiliaryHead(nn.Module):
    """The second classifier. The paper's pooling maps 8x8 to 2x2; other sizes also become 2x2."""

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
