"""Uniform random order: the baseline of every other ranker."""

from __future__ import annotations

import numpy as np

from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes
from lm_searcher.tools.protocols import Ranking


class RandomRanker:
    """Ignores the history."""

    def rank(self, pool: Codes, history: History, *, seed: int) -> Ranking:
        """See Ranker."""
        return np.random.default_rng(seed).permutation(len(pool))
