"""Regularised evolution over a pool (Real et al. 2019, arXiv 1802.01548, algorithm 1)."""

from __future__ import annotations

import numpy as np

from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Ranking
from lm_searcher.tools.rankers.distance import hamming, nearest_first


class EvolutionRanker:
    """Prefers a mutant of the winner of a tournament among the latest trials, any edit alike.

    The oldest leave the population, which is what regularises. The pool holds nothing that was
    evaluated before, so duplicates cannot come up. Trials without a score are no parents.
    """

    TOURNAMENTS = 4
    """Places of the ranking that have a tournament of their own; enough for a batch."""

    def __init__(self, population: int = 30, tournament: int = 10) -> None:
        self.population = population
        self.tournament = tournament

    @classmethod
    def for_space(cls, space: SearchSpace) -> EvolutionRanker:
        """The ranker of a space; the same for every space."""
        return cls()

    def rank(self, pool: Codes, history: History, *, seed: int) -> Ranking:
        """See Ranker."""
        rng = np.random.default_rng(seed)
        living = history.scored[-self.population :]
        if not len(living):
            return rng.permutation(len(pool))
        distances = []
        for _ in range(min(self.TOURNAMENTS, len(pool))):
            rivals = rng.choice(living, min(self.tournament, len(living)), replace=False)
            parent = rivals[np.argmax(history.scores[rivals])]
            distances.append(hamming(pool, history.codes[parent]))
        return nearest_first(distances, rng)
