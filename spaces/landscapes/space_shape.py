"""The shape of a search space: the arrays that landscapes and the in-context ranker use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.ncode import Codes

if TYPE_CHECKING:
    from lm_searcher.spaces.space import SearchSpace


@dataclass(frozen=True)
class SpaceShape:
    """The positions of a space as arrays, each of shape [positions]."""

    cardinalities: NDArray[np.int64]
    """The number of options."""
    ordered: NDArray[np.bool_]
    """Whether the options are ordered."""
    groups: NDArray[np.int64]
    """Group number of each position, any integers. Positions of a group have the same list of
    options: operations on the edges of a cell, widths of the layers."""

    @classmethod
    def of(cls, space: SearchSpace) -> SpaceShape:
        """The shape of a space: positions with equal option lists are one group."""
        lists = [p.choices for p in space.positions]
        return cls(
            space.cardinalities,
            np.array([bool(p.ordered) for p in space.positions]),
            np.array([lists.index(choices) for choices in lists], dtype=np.int64),
        )

    @property
    def positions(self) -> int:
        """The number of positions."""
        return len(self.cardinalities)

    def sample(self, n: int, rng: np.random.Generator) -> Codes:
        """`n` uniform draws with replacement, shape [n, positions]."""
        return rng.integers(0, self.cardinalities, size=(n, self.positions)).astype(np.uint8)

    def mutate(self, codes: Codes, edits: NDArray[np.int64], rng: np.random.Generator) -> Codes:
        """A copy with up to `edits[i]` positions of row i redrawn; `edits` has shape [n]."""
        order = np.argsort(rng.random(codes.shape), axis=1)
        fresh = self.sample(len(codes), rng)
        return np.where(order < edits[:, None], fresh, codes)

    @property
    def places(self) -> NDArray[np.float64]:
        """Coordinates of the options in [-1, 1], shape [positions, most options], for ordered
        positions. A single option has coordinate 0."""
        steps = np.arange(self.cardinalities.max())
        last = np.maximum(self.cardinalities - 1, 1)[:, None]
        places = np.clip(2 * steps / last - 1, -1, 1)
        places[self.cardinalities == 1] = 0
        return places


def random_shape(
    rng: np.random.Generator, max_positions: int = 20, max_options: int = 10, min_positions: int = 2
) -> SpaceShape:
    """A random shape, like those of real spaces: cells, grids, blocks, or a mixture.

    The number of positions is log-uniform. A cell is one group of unordered positions; in a grid
    all positions are ordered, each its own group; blocks are several groups of positions; in a
    mixture some positions are one group and the others are their own.
    """
    low, high = np.log(min_positions), np.log(max_positions + 1)
    count = int(np.exp(rng.uniform(low, high)))
    kind = rng.choice(["cell", "grid", "blocks", "mixed"], p=[0.3, 0.2, 0.3, 0.2])
    sizes = rng.integers(2, max_options + 1, size=count)
    if rng.random() < 0.5:
        sizes = np.minimum(sizes, rng.integers(2, 6))
    if kind == "cell":
        groups, ordered = np.zeros(count, np.int64), np.zeros(count, bool)
    elif kind == "grid":
        groups, ordered = np.arange(count), np.ones(count, bool)
    elif kind == "blocks":
        groups = np.sort(rng.integers(0, max(1, count // 3), size=count))
        if rng.random() < 0.5:
            rng.shuffle(groups)
        ordered = (rng.random(count) < rng.random())[groups]
    else:
        groups = np.where(rng.random(count) < 0.5, np.arange(count), count)
        ordered = (rng.random(count + 1) < rng.random())[groups]
    sizes = sizes[np.minimum(groups, count - 1)]
    return SpaceShape(sizes.astype(np.int64), ordered, groups.astype(np.int64))
