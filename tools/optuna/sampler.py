"""The rankers as an Optuna sampler, for any study of categorical and integer parameters.

The reverse of `rankers.optuna`: there Optuna suggests to this package's search, here this
package's rankers suggest to Optuna's. Parameters become positions of a search space, the
study's trials its history, and the ranker's first choice of a candidate pool the suggestion.
"""

from __future__ import annotations

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
from lm_searcher.spaces.ncode import MAX_OPTIONS, Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.tools.optuna.study import CHOSEN, ParameterOptions, history_of
from lm_searcher.tools.proposer import Proposer
from lm_searcher.tools.protocols import Ranker
from lm_searcher.tools.rankers import check_name, make_ranker

_TURN = Lock()  # one suggestion at a time, so that the next one sees this one as pending
_logger = optuna.logging.get_logger(f"optuna.{__name__}")  # so that its verbosity counts


class NCodeSampler(BaseSampler):  # type: ignore[misc]  # Optuna is not followed by mypy
    """Suggests what `ranker` puts first among candidates that were not tried yet.

    Categorical parameters of at most 36 choices and integers are ranked together once a trial
    has finished: those that every finished trial has, with one range. Integers of more than 36
    values, and all with ``log=True``, are thinned to at most 36 options, even in the range or in
    its logarithm, with both ends. Categorical choices that are numbers in order are ordered too.
    Everything else, floats above all, goes to `independent_sampler`, a RandomSampler unless given.

    The first `n_startup_trials` trials with a value are drawn at random. `pool` is the number of
    candidates in spaces of more than 20,000; smaller ones are ranked whole. Running trials are
    pending in the history, failed ones failed, pruned ones have their last reported value.
    Several objectives are made one by a Tchebycheff scalarisation of their ranks, with weights
    drawn anew for each suggestion. Constraints are not looked at.

    With a `seed`, a suggestion depends on it, the trial's number and the study's trials, so a
    study that is resumed goes on as if it had not been interrupted; not so with ``n_jobs`` above
    1, where Optuna reseeds, nor with an `independent_sampler` that keeps a generator of its own.

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
        self._entropy = np.random.SeedSequence(seed).entropy
        self._n_startup_trials = n_startup_trials
        self._pool = pool
        self._independent_sampler = independent_sampler
        self._warn_independent_sampling = warn_independent_sampling
        self._warned: set[str] = set()
        self._made: tuple[SearchSpace, Proposer, Ranker] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_made": None}  # a ranker may hold what cannot be copied

    def reseed_rng(self) -> None:
        """Go on with a fresh seed, as Optuna wants of the copies that work in parallel."""
        self._entropy = np.random.SeedSequence().entropy
        if self._independent_sampler is not None:
            self._independent_sampler.reseed_rng()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The parameters that are ranked together: see the class."""
        trials = [t for t in study.get_trials(deepcopy=False) if t.distributions]
        ended = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        # A failed trial may have been cut short before its last parameters, so only if need be.
        ended = ended or [t for t in trials if t.state == TrialState.FAIL]
        if not ended:
            return {}
        first, *rest = ended
        return {
            name: distribution
            for name, distribution in sorted(first.distributions.items())
            if not distribution.single()
            and ParameterOptions.of(name, distribution) is not None
            and all(t.distributions.get(name) == distribution for t in rest)
        }

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
            with _TURN:
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
        """A value of one parameter that is not ranked, from the independent sampler."""
        sampler = self._independent(trial, param_name)
        if self._warn_independent_sampling and param_name not in self._warned:
            self._warn(study, trial, param_name, sampler)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Passed on to the independent sampler."""
        if self._independent_sampler is not None:
            self._independent_sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Passed on to the independent sampler."""
        if self._independent_sampler is not None:
            self._independent_sampler.after_trial(study, trial, state, values)

    def _independent(self, trial: FrozenTrial, name: str) -> BaseSampler:
        if self._independent_sampler is not None:
            return self._independent_sampler
        place = [self._entropy, trial.number, zlib.crc32(name.encode())]
        return RandomSampler(seed=int(np.random.SeedSequence(place).generate_state(1)[0]))

    def _warn(
        self, study: optuna.Study, trial: FrozenTrial, name: str, sampler: BaseSampler
    ) -> None:
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        if not ended or len(ended) < self._n_startup_trials:
            return
        self._warned.add(name)
        _logger.warning(
            f"The parameter `{name}` in Trial#{trial.number} is sampled independently using "
            f"`{type(sampler).__name__}` instead of `{type(self).__name__}`, potentially "
            "degrading the optimization performance. This fallback happened because it is a "
            f"float, has more than {MAX_OPTIONS} choices, or is not in every finished trial with "
            "the same range. It is told once a parameter. You can suppress this warning by "
            "setting `warn_independent_sampling` to `False` in the constructor of "
            f"`{type(self).__name__}` if this independent sampling is intended behavior."
        )

    def _suggest(
        self, study: optuna.Study, trial: FrozenTrial, ranked: list[ParameterOptions]
    ) -> Codes:
        """The next candidate, shape [positions]."""
        space = SearchSpace("optuna", tuple(options.position for options in ranked))
        rng = np.random.default_rng([self._entropy, trial.number])
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        history = history_of(others, ranked, study.directions, rng)
        proposer, ranker = self._made_for(space)
        starting = len(history.scored) < self._n_startup_trials
        pool = rng.permutation(proposer.pool(history, Subspace.full(space), rng, starting))
        if not len(pool):  # all tried: half of it, so that no ranker can repeat one for ever
            pool = (
                space.sample(self._pool, rng)
                if proposer.enumerated is None
                else proposer.enumerated
            )
            pool = rng.permutation(pool)[: (len(pool) + 1) // 2]
        if starting:
            first: Codes = pool[0]
            return first
        verbosity = optuna.logging.get_verbosity()  # Optuna's own samplers as rankers quiet it
        try:
            ranking = ranker.rank(pool, history, seed=int(rng.integers(2**31)))
        finally:
            optuna.logging.set_verbosity(verbosity)
        best: Codes = pool[ranking[0]]
        return best

    def _made_for(self, space: SearchSpace) -> tuple[Proposer, Ranker]:
        if self._made is None or self._made[0] != space:
            proposer = Proposer(space, size=self._pool)
            self._made = space, proposer, make_ranker(self._ranker, space)
        return self._made[1:]
