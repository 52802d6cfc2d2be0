"""Random-forest expected improvement, the surrogate of SMAC (Hutter et al., LION 2011)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Ranking


class ForestRanker:
    """Expected improvement of scikit-learn's forest, fitted to normal scores of the outcomes.

    The standard deviation is that of the trees' predictions. An ordered position is one feature,
    any other position is one-hot. The forest is fitted to at most the best 500 and the latest 500
    trials; failed trials have the worst score, pending trials are ignored.
    """

    MOST = 1000

    def __init__(self, space: SearchSpace, trees: int = 100) -> None:
        self.space = space
        self.trees = trees

    def features(self, codes: Codes) -> NDArray[np.float32]:
        """The features of architectures, shape [n, features]."""
        columns = []
        for place, position in enumerate(self.space.positions):
            option = codes[:, place, None]
            if position.ordered:
                columns.append(option.astype(np.float32))
            else:
                columns.append((option == np.arange(len(position.choices))).astype(np.float32))
        return np.concatenate(columns, axis=1)

    def rank(self, pool: Codes, history: History, *, seed: int) -> Ranking:
        """See Ranker."""
        rng = np.random.default_rng(seed)
        shuffled = rng.permutation(len(pool))
        finished = np.flatnonzero(~history.pending)
        if not len(history.scored):
            return shuffled
        if len(finished) > self.MOST:
            half = self.MOST // 2
            finished = np.union1d(history.elites(half), finished[-half:])
        outcomes = normal_scores(np.where(history.failed, -np.inf, history.scores)[finished])
        gain = self._improvement(history.codes[finished], outcomes, pool, seed)
        return shuffled[np.argsort(-gain[shuffled], kind="stable")]

    def _improvement(
        self, codes: Codes, outcomes: NDArray[np.float64], pool: Codes, seed: int
    ) -> NDArray[np.float64]:
        """Expected improvement of each candidate over the best outcome, [candidates]."""
        from scipy.stats import norm
        from sklearn.ensemble import RandomForestRegressor

        forest = RandomForestRegressor(
            self.trees, max_features=5 / 6, min_samples_leaf=1, random_state=seed
        )
        forest.fit(self.features(codes), outcomes)
        points = self.features(pool)
        predictions = np.stack([tree.predict(points) for tree in forest.estimators_])
        mean, deviation = predictions.mean(axis=0), predictions.std(axis=0) + 1e-6
        z = (mean - outcomes.max()) / deviation
        return np.asarray(deviation * (z * norm.cdf(z) + norm.pdf(z)))


def normal_scores(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The normal quantiles of the values' ranks; equal values have equal scores."""
    from scipy.stats import norm, rankdata

    return np.asarray(norm.ppf(rankdata(values) / (len(values) + 1)))
