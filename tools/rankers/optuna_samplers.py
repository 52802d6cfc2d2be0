"""Optuna's samplers as rankers: TPE, Gaussian process, NSGA-II.

A sampler suggests an architecture; the pool is ordered by closeness to what it suggested. So a
suggestion that was evaluated before, or that the subspace excludes, gives its nearest neighbour
that is neither. The study that the sampler sees is built anew from the history at each call:
nothing can go stale, and a resumed run asks exactly what an uninterrupted one would.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.trial import TrialState, create_trial

from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Ranking
from lm_searcher.tools.rankers.distance import EditDistance, nearest_first

POPULATION = 20
"""NSGA-II's, and so the number of its random trials; Optuna's own 50 suits longer searches."""


def tpe(space: SearchSpace) -> OptunaRanker:
    """Multivariate tree-structured Parzen estimator; batches by constant liar."""
    return OptunaRanker(
        space, lambda seed: TPESampler(seed=seed, multivariate=True, constant_liar=True), most=1000
    )


def gp(space: SearchSpace) -> OptunaRanker:
    """Gaussian process with log expected improvement; its cost grows with the cube of `most`."""
    return OptunaRanker(space, lambda seed: GPSampler(seed=seed), most=200)


def nsga2(space: SearchSpace) -> OptunaRanker:
    """NSGA-II: crossover and mutation between generations; it sees several objectives as such."""
    return OptunaRanker(
        space,
        lambda seed: NSGAIISampler(seed=seed, population_size=POPULATION),
        most=1000,
        several=True,
    )


class OptunaRanker:
    """Orders a pool by closeness to a sampler's suggestions.

    `most` is the number of trials that the sampler is shown: the better half of that many, and
    the latest of the others. Without it a step's cost would grow with the run. With `several` the
    sampler sees several objectives themselves, not their scalarised scores.
    """

    SUGGESTIONS = 4
    """Places of the ranking with a suggestion of their own; enough for most batches."""

    def __init__(
        self,
        space: SearchSpace,
        sampler: Callable[[int], BaseSampler],
        most: int,
        several: bool = False,
    ) -> None:
        self.space = space
        self.sampler = sampler
        self.most = most
        self.several = several
        self.distance = EditDistance(space)
        # Names are places: a sampler sees which positions there are and their order, no more.
        self.distributions: dict[str, BaseDistribution] = {
            f"{place:02d}": IntDistribution(0, len(position.choices) - 1)
            if position.ordered
            else CategoricalDistribution(list(range(len(position.choices))))
            for place, position in enumerate(space.positions)
            if len(position.choices) > 1
        }

    def rank(self, pool: Codes, history: History, *, seed: int) -> Ranking:
        """See Ranker."""
        rng = np.random.default_rng(seed)
        if not len(history.scored) or not self.distributions:
            return rng.permutation(len(pool))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # options that Optuna calls experimental
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            study = self._study(history, seed)
            batch = range(min(self.SUGGESTIONS, len(pool)))
            wanted = [self._suggestion(study) for _ in batch]
        return nearest_first([self.distance(pool, code) for code in wanted], rng)

    def _study(self, history: History, seed: int) -> optuna.Study:
        objectives = self._values(history).shape[1]
        study = optuna.create_study(
            directions=["maximize"] * objectives, sampler=self.sampler(seed)
        )
        study.add_trials(
            [self._trial(history, row, i) for i, row in enumerate(self._shown(history))]
        )
        return study

    def _values(self, history: History) -> NDArray[np.float64]:
        """What the sampler maximises, shape [trials, objectives]."""
        if self.several and history.values is not None:
            return history.values
        return history.scores[:, None]

    def _shown(self, history: History) -> NDArray[np.intp]:
        """Rows of the history that the sampler sees, in order; failures teach it nothing."""
        scored, pending = history.scored, np.flatnonzero(history.pending)
        if len(scored) > self.most:
            best = history.elites(self.most // 2)
            others = np.setdiff1d(scored, best)[-(self.most - len(best)) :]
            scored = np.sort(np.concatenate([best, others]))
        return np.concatenate([scored, pending])

    def _trial(self, history: History, row: np.intp, index: int) -> optuna.trial.FrozenTrial:
        code = history.codes[row]
        params = {name: int(code[int(name)]) for name in self.distributions}
        if history.pending[row]:
            return create_trial(
                state=TrialState.RUNNING, params=params, distributions=self.distributions
            )
        return create_trial(
            values=[float(value) for value in self._values(history)[row]],
            params=params,
            distributions=self.distributions,
            system_attrs={f"{NSGAIISampler.__name__}:generation": index // POPULATION},
        )

    def _suggestion(self, study: optuna.Study) -> Codes:
        """The next suggestion, shape [positions]; it stays in the study as pending."""
        params = study.ask(self.distributions).params
        code = np.zeros(len(self.space.positions), dtype=np.uint8)
        for name, option in params.items():
            code[int(name)] = option
        return code
