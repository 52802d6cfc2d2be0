"""Landscapes made of regions of the space: trees, basins around optima, penalised regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.landscapes.landscapes import Values
from lm_searcher.spaces.landscapes.option_effects import importances
from lm_searcher.spaces.landscapes.space_shape import SpaceShape
from lm_searcher.spaces.ncode import Codes


@dataclass(frozen=True)
class Trees:
    """A sum of shallow random trees: thresholds on ordered positions, sets of options on others."""

    sides: NDArray[np.bool_]
    """The branch of each option, shape [trees, depth, most options]."""
    positions: NDArray[np.int64]
    """The position that splits each level, shape [trees, depth] (oblivious trees)."""
    leaves: NDArray[np.float64]
    """Shape [trees, 2 ** depth]."""

    @classmethod
    def make(cls, shape: SpaceShape, rng: np.random.Generator) -> Self:
        trees, depth = int(rng.integers(1, 13)), int(rng.integers(2, 5))
        chosen = importances(shape.positions, rng) ** 2
        splits = rng.choice(shape.positions, p=chosen / chosen.sum(), size=(trees, depth))
        width = int(shape.cardinalities.max())
        cut = rng.random((trees, depth, 1)) * shape.cardinalities[splits][..., None]
        rising = np.arange(width) >= np.maximum(cut, 0.5)
        sets = rng.random((trees, depth, width)) < rng.choice([0.2, 0.5, 0.8], size=(trees, 1, 1))
        sides = np.where(shape.ordered[splits][..., None], rising, sets)
        leaves = rng.normal(size=(trees, 2**depth)) * rng.gamma(2.0, size=(trees, 1))
        return cls(sides, splits, leaves)

    def __call__(self, codes: Codes) -> Values:
        trees, depth = self.positions.shape
        leaf = np.zeros((len(codes), trees), dtype=np.int64)
        for level in range(depth):
            options = codes[:, self.positions[:, level]]
            leaf = 2 * leaf + self.sides[np.arange(trees), level, options]
        return np.asarray(self.leaves[np.arange(trees), leaf].sum(axis=1))


@dataclass(frozen=True)
class HiddenOptimum:
    """Values fall with the distance to the nearest of a few hidden architectures.

    Needles, plateaus and basins, with lower local optima.
    """

    centres: Codes
    heights: Values
    mismatch: NDArray[np.float64]
    """Each option's distance to each centre, shape [centres, positions, most options]."""
    reach: float
    """The distance over which values fall."""

    @classmethod
    def make(cls, shape: SpaceShape, rng: np.random.Generator) -> Self:
        count = int(rng.choice([1, 1, 2, 3, 6]))
        centres = shape.sample(count, rng)
        weights = importances(shape.positions, rng) / shape.positions
        steps = np.arange(int(shape.cardinalities.max()))
        apart = np.abs(steps - centres[:, :, None].astype(float))
        ordered = (apart / np.maximum(shape.cardinalities - 1, 1)[:, None]) ** rng.choice([1, 2])
        mismatch = np.where(shape.ordered[:, None], 2 * ordered, apart > 0) * weights[:, None]
        heights = -rng.gamma(1.0, 0.2, size=count)
        heights[0] = 0
        return cls(centres, heights, mismatch, float(np.exp(rng.uniform(-1.2, 1.5))))

    def __call__(self, codes: Codes) -> Values:
        places = np.arange(codes.shape[1])
        distance = np.stack([cost[places, codes].sum(axis=1) for cost in self.mismatch], axis=1)
        return np.asarray((self.heights - np.expm1(-distance / self.reach) * -1).max(axis=1))


@dataclass(frozen=True)
class Regions:
    """Penalties for regions, each a conjunction of one to three options."""

    positions: NDArray[np.int64]
    options: NDArray[np.int64]
    """Both of shape [regions, 3]; a negative position is no condition."""
    penalties: NDArray[np.float64]
    """Shape [regions]."""

    @classmethod
    def make(cls, shape: SpaceShape, rng: np.random.Generator, size: float) -> Self:
        """One to three random regions with penalties around `size`."""
        count = int(rng.integers(1, 4))
        positions = rng.integers(0, shape.positions, size=(count, 3))
        options = rng.integers(0, shape.cardinalities[positions])
        terms = rng.choice([1, 2, 3], p=[0.35, 0.5, 0.15], size=count)
        positions[np.arange(3) >= terms[:, None]] = -1
        return cls(positions, options, size * rng.uniform(0.5, 1.5, size=count))

    def __call__(self, codes: Codes) -> Values:
        """The sum of the penalties of the regions that contain each row, shape [n]."""
        inside = (codes[:, self.positions] == self.options) | (self.positions < 0)
        return np.asarray(inside.all(axis=2) @ self.penalties)
