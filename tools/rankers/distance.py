"""Distances between architectures, and rankings by the distance to targets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Ranking


def hamming(pool: Codes, code: Codes) -> NDArray[np.float32]:
    """The number of positions in which each row differs from `code`; shape [candidates]."""
    differing: NDArray[np.intp] = np.count_nonzero(pool != code, axis=1)
    return differing.astype(np.float32)


class EditDistance:
    """The number of positions that differ; near options of ordered positions count less than 1.

    Two different options of an ordered position count between one half and 1, growing with
    their distance.
    """

    def __init__(self, space: SearchSpace) -> None:
        most = int(space.cardinalities.max())
        self.tables = np.ones((len(space.positions), most, most), dtype=np.float32)
        for table, position in zip(self.tables, space.positions, strict=True):
            if position.ordered and len(position.choices) > 2:
                places = np.arange(most) / (len(position.choices) - 1)
                table[:] = 0.5 + 0.5 * np.minimum(1, np.abs(places[:, None] - places[None, :]))
            np.fill_diagonal(table, 0)

    def __call__(self, pool: Codes, code: Codes) -> NDArray[np.float32]:
        """The distance of each row of `pool` to `code` [positions]; shape [candidates]."""
        distance = np.zeros(len(pool), dtype=np.float32)
        for place, option in enumerate(code):
            distance += self.tables[place, option][pool[:, place]]
        return distance


def nearest_first(distances: list[NDArray[np.float32]], rng: np.random.Generator) -> Ranking:
    """A ranking from the distances to several target architectures.

    The i-th candidate of the ranking is the one nearest to the i-th target, among those not
    ranked yet; the rest follow by their distance to the first target. Equal distances are ordered
    at random.
    """
    noise = rng.random(len(distances[0]), dtype=np.float32) * 1e-3
    placed: list[int] = []
    for distance in distances[: len(noise)]:
        keyed = distance + noise
        keyed[placed] = np.inf
        placed.append(int(np.argmin(keyed)))
    rest = np.argsort(distances[0] + noise, kind="stable")
    left = np.ones(len(rest), dtype=bool)
    left[placed] = False
    return np.concatenate([np.array(placed, dtype=np.intp), rest[left[rest]]])
