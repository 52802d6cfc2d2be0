"""Uniform random order: the baseline of every other ranker."""

from __future__ import annotations

import numpy as np

from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Ranking


class RandomRanker:
    """Ignores the history."""

    @classmethod
    def for_space(cls, space: SearchSpace) -> RandomRanker:
        """The ranker of a space; the same for every space."""
        return cls()

    def rank(self, pool: Codes, history: History, *, seed: int) -> Ranking:
        """See Ranker."""
        return np.random.default_rng(seed).permutation(len(pool))
