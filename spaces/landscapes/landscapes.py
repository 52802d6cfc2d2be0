"""Synthetic landscapes: objectives that resemble those of architectures and hyperparameters.

Each class is one kind of dependence on the options; `make` draws a random one for a shape. A
landscape maps codes [n, positions] to float64 [n], higher is better, on an arbitrary scale:
`tasks.random_task` mixes, standardises and warps landscapes. The in-context ranker is pre-trained
on them alone, not on tables of results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.landscapes.option_effects import (
    Effects,
    importances,
    look_up,
    option_effects,
    ordered_effect,
)
from lm_searcher.spaces.landscapes.space_shape import SpaceShape
from lm_searcher.spaces.ncode import Codes

Values = NDArray[np.float64]
Landscape = Callable[[Codes], Values]


@dataclass(frozen=True)
class Additive:
    """A sum of one effect for each position."""

    table: Effects

    @classmethod
    def make(cls, shape: SpaceShape, rng: np.random.Generator) -> Self:
        weights = importances(shape.positions, rng)
        return cls(option_effects(shape, rng) * weights[:, None])

    def __call__(self, codes: Codes) -> Values:
        return np.asarray(look_up(self.table, codes).sum(axis=1))


@dataclass(frozen=True)
class Pairwise:
    """A sum of interactions of a few pairs of positions; other positions have no effect.

    Two ordered positions: a product of slopes, or a ridge (the best learning rate grows with the
    batch size). An ordered and an unordered one: a curve for each option of the latter. Two
    unordered ones: a random table.
    """

    pairs: NDArray[np.int64]
    """Shape [pairs, 2]."""
    tables: NDArray[np.float64]
    """Shape [pairs, most options, most options]."""

    @classmethod
    def make(cls, shape: SpaceShape, rng: np.random.Generator) -> Self:
        width = int(shape.cardinalities.max())
        count = 1 + rng.poisson(shape.positions * rng.uniform(0.2, 1))
        pairs = rng.integers(0, shape.positions, size=(count, 2))
        tables = np.zeros((count, width, width))
        for table, (a, b) in zip(tables, pairs, strict=True):
            table[:] = _interaction(shape, int(a), int(b), width, rng)
        return cls(pairs, tables * rng.gamma(1.0, size=(count, 1, 1)))

    def __call__(self, codes: Codes) -> Values:
        a, b = codes[:, self.pairs[:, 0]], codes[:, self.pairs[:, 1]]
        chosen: Values = self.tables[np.arange(len(self.pairs)), a, b].sum(axis=1)
        return chosen


def _interaction(
    shape: SpaceShape, a: int, b: int, width: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    x, y = shape.places[a][:, None], shape.places[b][None, :]
    if shape.ordered[a] and shape.ordered[b]:
        if rng.random() < 0.5:
            return np.asarray((x - rng.uniform(-1, 1)) * (y - rng.uniform(-1, 1)))
        slope = rng.choice([-1.0, 1.0]) * rng.uniform(0.4, 1.6)
        return np.asarray(
            -(np.abs(x - slope * y - rng.uniform(-0.5, 0.5)) ** rng.choice([1.0, 2.0]))
        )
    if shape.ordered[a] or shape.ordered[b]:
        line = shape.places[a if shape.ordered[a] else b]
        curves = np.stack([ordered_effect(line, rng) for _ in range(width)])
        return curves.T if shape.ordered[a] else curves
    if rng.random() < 0.5:
        return np.outer(rng.normal(size=width), rng.normal(size=width))
    return rng.normal(size=(width, width))


def embeddings(shape: SpaceShape, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random vector for each option, shape [positions, most options, size].

    Ordered options lie on a curve. The positions of a group share their vectors, or a random part
    of them, in half of the cases.
    """
    width = int(shape.cardinalities.max())
    shared = rng.random() < 0.5
    spread = rng.uniform(0, 0.7)
    count = int(shape.groups.max()) + 1
    base = rng.normal(size=(count, width, size))[shape.groups]
    own = rng.normal(size=(shape.positions, width, size))
    table = base * (1 - spread) + own * spread if shared else own
    x = shape.places[:, :, None]
    bends = rng.normal(scale=0.6, size=(shape.positions, 1, size))
    curve = own[:, :1] * x + bends * (x**2 - 0.4)
    return np.where(shape.ordered[:, None, None], 1.5 * curve, table)


@dataclass(frozen=True)
class RandomNet:
    """A random two-layer network over the sum of the options' embeddings.

    It has interactions of every order and is smoother for smaller gains.
    """

    table: NDArray[np.float64]
    hidden: NDArray[np.float64]
    out: NDArray[np.float64]
    wave: bool

    @classmethod
    def make(cls, shape: SpaceShape, rng: np.random.Generator) -> Self:
        size, units = 12, int(rng.choice([4, 16, 48]))
        weights = importances(shape.positions, rng) / np.sqrt(shape.positions)
        table = embeddings(shape, size, rng) * weights[:, None, None]
        gain = np.exp(rng.uniform(np.log(0.5), np.log(3)))
        hidden = rng.normal(size=(size + 1, units)) * gain / np.sqrt(size)
        return cls(table, hidden, rng.normal(size=units), bool(rng.random() < 0.3))

    def __call__(self, codes: Codes) -> Values:
        x = self.table[np.arange(codes.shape[1]), codes].sum(axis=1)
        h = x @ self.hidden[:-1] + self.hidden[-1]
        h = np.sin(h) if self.wave else np.tanh(h)
        return np.asarray(h @ self.out)


@dataclass(frozen=True)
class SingleIndex:
    """A function of one sum, such as capacity or effective learning rate.

    It rises up to a point, then is constant (saturation) or falls (a peak). Positions can
    compensate each other, which makes ridges.
    """

    table: Effects
    peak: float
    power: float
    beyond: float
    """The slope factor beyond the peak; 0 is saturation."""

    @classmethod
    def make(cls, shape: SpaceShape, rng: np.random.Generator) -> Self:
        table = option_effects(shape, rng)
        line = shape.places * rng.choice([-1.0, 1.0], p=[0.15, 0.85], size=(shape.positions, 1))
        straight = shape.ordered & (rng.random(shape.positions) < 0.8)
        table = np.where(straight[:, None], line, table)
        table = table * importances(shape.positions, rng)[:, None]
        return cls(
            table / np.sqrt(shape.positions),
            rng.normal(scale=0.8),
            rng.choice([1.0, 2.0]),
            rng.choice([0.0, 0.3, 1.0, 1.0]),
        )

    def __call__(self, codes: Codes) -> Values:
        gap = look_up(self.table, codes).sum(axis=1) - self.peak
        return np.asarray(-(np.abs(gap) ** self.power) * np.where(gap > 0, self.beyond, 1.0))


@dataclass(frozen=True)
class Multiplicative:
    """A product of gains (log-scale effects), or a soft minimum of the effects (the weakest link).

    In a soft minimum no option can compensate for a bad one.
    """

    table: Effects
    sharpness: float
    """0 is the product; a positive value is the sharpness of the soft minimum."""

    @classmethod
    def make(cls, shape: SpaceShape, rng: np.random.Generator) -> Self:
        weights = importances(shape.positions, rng)[:, None]
        sharpness = 0.0 if rng.random() < 0.5 else rng.uniform(0.5, 4)
        scale = rng.uniform(0.2, 1) / np.sqrt(shape.positions) if sharpness == 0 else 1.0
        return cls(option_effects(shape, rng) * weights * scale, sharpness)

    def __call__(self, codes: Codes) -> Values:
        effects = look_up(self.table, codes)
        if self.sharpness == 0:
            return np.asarray(np.exp(np.clip(effects.sum(axis=1), -8, 8)))
        return np.asarray(-np.log(np.exp(-self.sharpness * effects).mean(axis=1)))
