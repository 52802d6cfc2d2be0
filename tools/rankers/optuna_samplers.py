"""Optuna's samplers as rankers: TPE, Gaussian process, NSGA-II.

A sampler suggests an architecture, and the pool is ordered by the distance to the suggestion. So
for a suggestion that was evaluated before, or that is outside the subspace, the nearest candidate
is ranked first. The sampler's study is built from the history at each call, so that a resumed run
ranks exactly as an uninterrupted one.
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
"""The population of NSGA-II, and so its number of random trials.

Optuna's default of 50 suits longer searches.
"""


def tpe(space: SearchSpace) -> OptunaRanker:
    """Multivariate tree-structured Parzen estimator; batches by constant liar."""
    return OptunaRanker(
        space, lambda seed: TPESampler(seed=seed, multivariate=True, constant_liar=True), most=1000
    )


def gp(space: SearchSpace) -> OptunaRanker:
    """Gaussian process with log expected improvement; the cost is cubic in `most`."""
    return OptunaRanker(space, lambda seed: GPSampler(seed=seed), most=200)


def nsga2(space: SearchSpace) -> OptunaRanker:
    """NSGA-II: crossover and mutation between generations, on all objectives."""
    return OptunaRanker(
        space,
        lambda seed: NSGAIISampler(seed=seed, population_size=POPULATION),
        most=1000,
        several=True,
    )


class OptunaRanker:
    """Orders a pool by the distance to a sampler's suggestions.

    The sampler sees at most `most` trials, so that the cost of a step does not grow with the run:
    half of them are the best, half the latest of the others. With `several` the sampler sees all
    objectives instead of their scalarised score.
    """

    SUGGESTIONS = 4
    """The first candidates of the ranking each have their own suggestion; enough for a batch."""

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
        # A parameter is named by the number of its position; the sampler needs no other name.
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
            warnings.simplefilter("ignore")  # about options that are experimental in Optuna
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            study = self._study(history, seed)
            batch = range(min(self.SUGGESTIONS, len(pool)))
            targets = [self._suggestion(study) for _ in batch]
        return nearest_first([self.distance(pool, code) for code in targets], rng)

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
        """The values that the sampler maximises, shape [trials, objectives]."""
        if self.several and history.values is not None:
            return history.values
        return history.scores[:, None]

    def _shown(self, history: History) -> NDArray[np.intp]:
        """Rows of the history that the sampler sees, in order; failed trials are not among them."""
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
        """The next suggestion, shape [positions]; the study keeps it as a pending trial."""
        params = study.ask(self.distributions).params
        code = np.zeros(len(self.space.positions), dtype=np.uint8)
        for name, option in params.items():
            code[int(name)] = option
        return code
