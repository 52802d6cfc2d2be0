"""Landscapes of signals that flow through a graph, as in the cells of neural networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.landscapes.landscapes import Landscape, Values
from lm_searcher.spaces.landscapes.space_shape import SpaceShape
from lm_searcher.spaces.ncode import Codes


def _operations(shape: SpaceShape, channels: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random matrix for each option, shape [positions, most options, channels, channels].

    Unordered options have random gains, one of them often near 0, and are mixtures of a random
    matrix and the identity; the positions of a group share them. The gains of ordered options
    grow along the order.
    """
    width = int(shape.cardinalities.max())
    count = int(shape.groups.max()) + 1
    mixing = rng.normal(size=(count, width, channels, channels)) / np.sqrt(channels)
    straight = rng.uniform(0, 1, size=(count, width, 1, 1))
    gains = np.exp(rng.normal(scale=rng.uniform(0.2, 0.8), size=(count, width, 1, 1)))
    if rng.random() < 0.7:
        gains[:, rng.integers(width)] *= rng.choice([0.0, 0.05, 0.2])
    matrices = gains * ((1 - straight) * mixing + straight * np.eye(channels))
    matrices = matrices[shape.groups]
    slope = rng.uniform(0.1, 0.8, size=(shape.positions, 1, 1, 1))
    along = matrices[:, :1] * np.exp(slope * shape.places[:, :, None, None])
    return np.asarray(np.where(shape.ordered[:, None, None, None], along, matrices))


def _read_out(signal: NDArray[np.float64], target: NDArray[np.float64], kind: int) -> Values:
    """The value of a signal [n, channels]: its strength, the distance of its strength to a target,
    or its direction."""
    strength = np.sqrt((signal**2).sum(axis=1))
    if kind == 0:
        return np.asarray(np.log(strength + 0.05))
    if kind == 1:
        return np.asarray(-np.abs(np.log(strength + 0.05) - target[0]))
    return np.asarray(signal @ target / (strength + 0.1))


@dataclass(frozen=True)
class SignalFlow:
    """Positions are edges of a random directed acyclic graph; options transform the signal.

    Edges on many paths have the largest effect. An option with gain 0 matters only if no other
    path passes around it.
    """

    tails: NDArray[np.int64]
    heads: NDArray[np.int64]
    nodes: int
    operations: NDArray[np.float64]
    source: NDArray[np.float64]
    target: NDArray[np.float64]
    kind: int

    @classmethod
    def make(cls, shape: SpaceShape, rng: np.random.Generator, channels: int = 5) -> Self:
        edges = shape.positions
        nodes = int(np.ceil((1 + np.sqrt(1 + 8 * edges)) / 2))  # the complete graph of a cell
        if rng.random() < 0.4:
            nodes = int(rng.integers(nodes, edges + 2))
        tails, heads = np.triu_indices(nodes, 1)
        chain = np.flatnonzero(heads == tails + 1)
        rest = rng.permutation(np.flatnonzero(heads != tails + 1))
        kept = np.sort(np.concatenate([chain, rest])[:edges])
        order = np.argsort(heads[kept], kind="stable")
        return cls(
            tails[kept][order],
            heads[kept][order],
            nodes,
            _operations(shape, channels, rng),
            rng.normal(size=channels),
            rng.normal(size=channels),
            int(rng.integers(3)),
        )

    def __call__(self, codes: Codes) -> Values:
        state = np.zeros((self.nodes, len(codes), len(self.source)))
        state[0] = self.source
        for edge, (tail, head) in enumerate(zip(self.tails, self.heads, strict=True)):
            sent = np.tanh(state[tail]) if tail else state[tail]
            for option, matrix in enumerate(self.operations[edge]):
                rows = np.flatnonzero(codes[:, edge] == option)
                if len(rows):
                    state[head, rows] += sent[rows] @ matrix
        return _read_out(state[-1], self.target, self.kind)


@dataclass(frozen=True)
class LinkList:
    """One position chooses the wiring of a graph, the other positions the nodes' operations.

    Each option of the wiring is a list of parents, one for each node.
    """

    links: int
    parents: NDArray[np.int64]
    """Each node's parent among the earlier nodes, -1 for the input; shape [options, nodes]."""
    operations: NDArray[np.float64]
    source: NDArray[np.float64]
    target: NDArray[np.float64]
    kind: int

    @classmethod
    def make(cls, shape: SpaceShape, rng: np.random.Generator, channels: int = 5) -> Self:
        unordered = np.flatnonzero(~shape.ordered)
        links = int(rng.choice(unordered if len(unordered) else np.arange(shape.positions)))
        nodes = shape.positions - 1
        options = int(shape.cardinalities[links])
        highest = np.broadcast_to(np.arange(nodes), (options, nodes))
        parents = np.asarray(rng.integers(-1, highest))
        return cls(
            links,
            parents,
            np.delete(_operations(shape, channels, rng), links, axis=0),
            rng.normal(size=channels),
            rng.normal(size=channels),
            int(rng.integers(3)),
        )

    def __call__(self, codes: Codes) -> Values:
        nodes = np.delete(codes, self.links, axis=1)
        wiring = self.parents[codes[:, self.links]]
        rows = np.arange(len(codes))
        state = np.zeros((nodes.shape[1] + 1, len(codes), len(self.source)))
        state[0] = self.source
        used = np.zeros((nodes.shape[1] + 1, len(codes)), bool)
        for node in range(nodes.shape[1]):
            received = state[wiring[:, node] + 1, rows]
            used[wiring[:, node] + 1, rows] = True
            for option, matrix in enumerate(self.operations[node]):
                chosen = np.flatnonzero(nodes[:, node] == option)
                if len(chosen):
                    state[node + 1, chosen] = np.tanh(received[chosen] @ matrix)
        leaves = ~used[1:]  # the output is the sum of the nodes that no other node reads
        return _read_out((state[1:] * leaves[..., None]).sum(axis=0), self.target, self.kind)


@dataclass(frozen=True)
class Conditional:
    """Some positions have an effect only under some options of another position, the switch.

    Examples: layers beyond the depth, settings of an optimiser that is not chosen.
    """

    inner: Landscape
    switch: int
    muted: NDArray[np.bool_]
    """The positions that are set to option 0, shape [options of the switch, positions]."""

    @classmethod
    def wrap(cls, inner: Landscape, shape: SpaceShape, rng: np.random.Generator) -> Self:
        """`inner` with a random position as the switch."""
        switch = int(rng.integers(shape.positions))
        options = int(shape.cardinalities[switch])
        share = rng.uniform(0.2, 0.7)
        dependent = rng.random(shape.positions) < share
        if shape.ordered[switch]:  # like a depth: each step activates further positions
            level = rng.integers(0, options, size=shape.positions)
            muted = (np.arange(options)[:, None] < level) & dependent
        else:
            muted = (rng.random((options, 1)) < 0.5) & dependent
        muted[:, switch] = False
        return cls(inner, switch, muted)

    def __call__(self, codes: Codes) -> Values:
        return self.inner(np.where(self.muted[codes[:, self.switch]], 0, codes).astype(np.uint8))
