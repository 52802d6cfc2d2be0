"""The bare arrays of a search space: what a landscape or an in-context ranker needs of it."""

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
    """Positions as arrays, each of shape [positions]."""

    cardinalities: NDArray[np.int64]
    """The number of options."""
    ordered: NDArray[np.bool_]
    """Whether the order of the options means something."""
    groups: NDArray[np.int64]
    """Positions of one group choose from one and the same list of options (operations on the
    edges of a cell, widths of the layers); any numbers will do."""

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
        """A copy in which row i has up to `edits[i]` positions (shape [n]) drawn anew."""
        order = np.argsort(rng.random(codes.shape), axis=1)
        fresh = self.sample(len(codes), rng)
        return np.where(order < edits[:, None], fresh, codes)

    @property
    def places(self) -> NDArray[np.float64]:
        """Where each option lies in [-1, 1], shape [positions, most options]; meant for ordered
        positions. A single option lies at 0."""
        steps = np.arange(self.cardinalities.max())
        last = np.maximum(self.cardinalities - 1, 1)[:, None]
        places = np.clip(2 * steps / last - 1, -1, 1)
        places[self.cardinalities == 1] = 0
        return places


def random_shape(
    rng: np.random.Generator, max_positions: int = 20, max_options: int = 10, min_positions: int = 2
) -> SpaceShape:
    """A shape like those that are searched: cells, grids of settings, stages, or a mixture.

    The number of positions is log-uniform. A kind is drawn first: all unordered in one group
    (a cell), all ordered (a grid), or blocks of positions that are each a group of their own.
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
