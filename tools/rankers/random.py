"""Uniform random order: the floor that every other ranker is measured against."""

from __future__ import annotations

import numpy as np

from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes
from lm_searcher.tools.protocols import Ranking


class RandomRanker:
    """Knows nothing."""

    def rank(self, pool: Codes, history: History, *, seed: int) -> Ranking:
        """See Ranker."""
        return np.random.default_rng(seed).permutation(len(pool))
