"""The rankers as an Optuna sampler, for any study with categorical and integer parameters.

The study's parameters become positions of a search space, its trials a history, and the best
candidate of a pool is the suggestion. `rankers/optuna_samplers.py` is the reverse: Optuna's
samplers as rankers.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.tools.optuna.independent import warn_independent
from lm_searcher.tools.optuna.study import CHOSEN, ParameterOptions, history_of, ranked_parameters
from lm_searcher.tools.proposer import Proposer
from lm_searcher.tools.protocols import Ranker
from lm_searcher.tools.rankers import check_name, make_ranker

_ONE_AT_A_TIME = Lock()  # so that each suggestion sees the one before as pending


class NCodeSampler(BaseSampler):
    """Suggests the candidate that `ranker` ranks first, among those not tried yet.

    Ranked together are integers, and categorical parameters of at most 36 choices, if every
    finished trial has them with the same range. Integers of more than 36 values, and all with
    ``log=True``, are thinned to at most 36 options, evenly in the range or in its logarithm, with
    both ends. Categorical choices that are numbers in order are ordered too. Other parameters,
    such as floats, go to `independent_sampler`, by default a RandomSampler.

    The first `n_startup_trials` trials with a value are random. `pool` is the number of
    candidates in spaces of more than 20,000; smaller spaces are ranked as a whole. In the history
    running trials are pending, failed trials failed, and pruned trials have their last reported
    value. Several objectives are scalarised, see `study.scalarised`. Constraints are ignored.

    With a `seed`, a suggestion depends on the seed, the trial's number and the study's trials, so
    a resumed study continues as an uninterrupted one. This does not hold with ``n_jobs`` above 1,
    where Optuna reseeds, or with an `independent_sampler` that has a generator of its own.

    Raises ConfigError for an unknown ranker or a number out of range.
    """

    def __init__(
        self,
        ranker: str = "local",
        *,
        seed: int | None = None,
        n_startup_trials: int = 5,
        pool: int = 1000,
        independent_sampler: BaseSampler | None = None,
        warn_independent_sampling: bool = True,
    ) -> None:
        check_name(ranker)
        for name, value, least in [
            ("seed", seed or 0, 0),
            ("n_startup_trials", n_startup_trials, 0),
            ("pool", pool, 1),
        ]:
            if value < least:
                raise ConfigError(f"{name} = {value}; accepted: {least} or more")
        self._ranker = ranker
        self._entropy = secrets.randbits(128) if seed is None else int(seed)
        self._n_startup_trials = n_startup_trials
        self._pool = pool
        self._independent_sampler = independent_sampler
        self._warn_independent_sampling = warn_independent_sampling
        self._warned: set[str] = set()
        self._cached: tuple[SearchSpace, Proposer, Ranker] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cached": None}  # a ranker may not be copyable

    def reseed_rng(self) -> None:
        """Take a new seed; Optuna calls this for copies that work in parallel."""
        self._entropy = secrets.randbits(128)
        if self._independent_sampler is not None:
            self._independent_sampler.reseed_rng()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The parameters that are ranked together, see the class."""
        return ranked_parameters(study.get_trials(deepcopy=False))

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A value for each parameter of `search_space`."""
        params: dict[str, Any] = {}
        ranked: list[ParameterOptions] = []
        for name, distribution in search_space.items():
            if options := ParameterOptions.of(name, distribution):
                ranked.append(options)
            else:
                independent = self._independent(trial, name)
                params[name] = independent.sample_independent(study, trial, name, distribution)
        if ranked:
            with _ONE_AT_A_TIME:
                code = self._suggest(study, trial, ranked)
                chosen = {o.name: int(c) for o, c in zip(ranked, code, strict=True)}
                study._storage.set_trial_system_attr(trial._trial_id, CHOSEN, chosen)
            params |= {o.name: o.values[chosen[o.name]] for o in ranked}
        return params

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A value of a parameter that is not ranked, from the independent sampler."""
        sampler = self._independent(trial, param_name)
        if self._warn_independent_sampling and param_name not in self._warned:
            self._warn(study, trial, param_name, sampler)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """See BaseSampler; passed on to the independent sampler."""
        if self._independent_sampler is not None:
            self._independent_sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """See BaseSampler; passed on to the independent sampler."""
        if self._independent_sampler is not None:
            self._independent_sampler.after_trial(study, trial, state, values)

    def _independent(self, trial: FrozenTrial, name: str) -> BaseSampler:
        """The independent sampler, or a RandomSampler of the seed, the trial and the name."""
        if self._independent_sampler is not None:
            return self._independent_sampler
        words = [self._entropy, trial.number, zlib.crc32(name.encode())]
        return RandomSampler(seed=int(np.random.SeedSequence(words).generate_state(1)[0]))

    def _warn(
        self, study: optuna.Study, trial: FrozenTrial, name: str, sampler: BaseSampler
    ) -> None:
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        if not ended or len(ended) < self._n_startup_trials:
            return
        self._warned.add(name)
        warn_independent(trial, name, sampler, instead_of=type(self).__name__)

    def _suggest(
        self, study: optuna.Study, trial: FrozenTrial, ranked: list[ParameterOptions]
    ) -> Codes:
        """The suggested candidate, shape [positions]."""
        space = SearchSpace("optuna", tuple(options.position for options in ranked))
        rng = np.random.default_rng([self._entropy, trial.number])
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        history = history_of(others, ranked, study.directions, rng)
        proposer, ranker = self._ranker_for(space)
        starting = len(history.scored) < self._n_startup_trials
        pool = rng.permutation(proposer.pool(history, Subspace.full(space), rng, starting))
        if not len(pool):  # all tried: a random half, so that no candidate repeats for ever
            whole = proposer.enumerated
            pool = space.sample(self._pool, rng) if whole is None else whole
            pool = rng.permutation(pool)[: (len(pool) + 1) // 2]
        if starting:
            first: Codes = pool[0]
            return first
        verbosity = optuna.logging.get_verbosity()  # rankers of Optuna's samplers change it
        try:
            ranking = ranker.rank(pool, history, seed=int(rng.integers(2**31)))
        finally:
            optuna.logging.set_verbosity(verbosity)
        best: Codes = pool[ranking[0]]
        return best

    def _ranker_for(self, space: SearchSpace) -> tuple[Proposer, Ranker]:
        if self._cached is None or self._cached[0] != space:
            proposer = Proposer(space, size=self._pool)
            self._cached = space, proposer, make_ranker(self._ranker, space)
        return self._cached[1:]
