"""Variation: new candidates from the best ones, by mutation and crossover."""

from __future__ import annotations

import numpy as np

from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.subspace import Subspace


def breed(elites: Codes, n: int, subspace: Subspace, rng: np.random.Generator) -> Codes:
    """`n` children of random elites, shape [n, positions]; `elites` has at least one row.

    Each child has one or two positions redrawn from the subspace. Every third is the uniform
    crossover of two elites before that.
    """
    rows = np.arange(n)
    children = elites[rng.integers(0, len(elites), n)].copy()
    mates = elites[rng.integers(0, len(elites), n)]
    crossed = (rows % 3 == 0)[:, None] & (rng.random(children.shape) < 0.5)
    children = np.where(crossed, mates, children)
    drawn = subspace.sample(n, rng)
    for edit in range(2):
        position = rng.integers(0, children.shape[1], n)
        edited = rows if edit == 0 else rows[rng.random(n) < 0.5]
        children[edited, position[edited]] = drawn[edited, position[edited]]
    return children
