"""Regularised evolution over a pool (Real et al. 2019, arXiv 1802.01548, algorithm 1)."""

from __future__ import annotations

import numpy as np

from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Ranking
from lm_searcher.tools.rankers.distance import hamming, nearest_first


class EvolutionRanker:
    """Ranks by the edit distance to the winner of a tournament among the latest trials.

    The oldest trials leave the population, which is the regularisation. The pool contains no
    evaluated architecture, so there are no duplicates. Trials without a score are not parents.
    """

    TOURNAMENTS = 4
    """The first candidates of the ranking each have their own tournament; enough for a batch."""

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
        population = history.latest(self.population)
        if not len(population):
            return rng.permutation(len(pool))
        distances = []
        for _ in range(min(self.TOURNAMENTS, len(pool))):
            rivals = rng.choice(population, min(self.tournament, len(population)), replace=False)
            parent = rivals[np.argmax(history.scores[rivals])]
            distances.append(hamming(pool, history.codes[parent]))
        return nearest_first(distances, rng)
