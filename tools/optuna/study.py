"""An Optuna study as positions of a search space and a history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from lm_searcher.spaces.errors import SpaceError
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import MAX_OPTIONS
from lm_searcher.spaces.space import Position

CHOSEN = "lm_searcher:chosen"
"""Trial attribute: the suggested option of each parameter, set before the objective asks."""


@dataclass(frozen=True)
class ParameterOptions:
    """A parameter as a position, with the value of each option."""

    position: Position
    distribution: IntDistribution | CategoricalDistribution
    values: tuple[Any, ...]

    @classmethod
    def of(cls, name: str, distribution: BaseDistribution) -> ParameterOptions | None:
        """The options of a parameter; None if it cannot be ranked."""
        if isinstance(distribution, IntDistribution):
            values: tuple[Any, ...] = _thinned(distribution)
        elif isinstance(distribution, CategoricalDistribution):
            values = tuple(distribution.choices)
        else:
            return None
        if not name or len(values) > MAX_OPTIONS:
            return None
        ordered = isinstance(distribution, IntDistribution) or None
        try:
            position = Position(name, values, ordered)
        except SpaceError:  # choices such as None, NaN, or 1 beside True; any names will do
            position = Position(name, tuple(f"{i}: {value}" for i, value in enumerate(values)))
        return cls(position, distribution, values)

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.position.name

    def index(self, value: Any) -> int | None:
        """The option equal or nearest to `value`; None if the value is out of range."""
        if isinstance(self.distribution, CategoricalDistribution):
            try:
                return int(self.distribution.to_internal_repr(value))
            except ValueError:
                return None
        if value in self._places:
            return self._places[value]
        low, high, log = self.distribution.low, self.distribution.high, self.distribution.log
        if not low <= value <= high:
            return None
        values = np.array(self.values, np.float64)
        distance = np.abs(np.log(values / value) if log else values - value)
        return int(np.argmin(distance))

    @cached_property
    def _places(self) -> dict[int, int]:
        return {value: place for place, value in enumerate(self.values)}


def _thinned(distribution: IntDistribution) -> tuple[int, ...]:
    """At most 36 values of an integer parameter in increasing order, with both ends."""
    low, high, last = distribution.low, distribution.high, MAX_OPTIONS - 1
    if distribution.log:
        inner = (round(low * (high / low) ** (i / last)) for i in range(1, last))
        return tuple(sorted({low, high, *(min(max(value, low), high) for value in inner)}))
    count = (high - low) // distribution.step + 1
    if count <= MAX_OPTIONS:
        return tuple(range(low, high + 1, distribution.step))
    return tuple(low + (count - 1) * i // last * distribution.step for i in range(MAX_OPTIONS))


def ranked_parameters(trials: Iterable[FrozenTrial]) -> dict[str, BaseDistribution]:
    """The parameters that every finished trial has with the same range, if they can be ranked."""
    begun = [t for t in trials if t.distributions]
    ended = [t for t in begun if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    # A failed trial may lack its last parameters, so it counts only if no other has ended.
    ended = ended or [t for t in begun if t.state == TrialState.FAIL]
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


def history_of(
    trials: Iterable[FrozenTrial],
    ranked: Sequence[ParameterOptions],
    directions: Sequence[StudyDirection],
    rng: np.random.Generator,
) -> History:
    """The trials that have all `ranked` parameters, as a history with one score each."""
    sign = np.array([1.0 if d == StudyDirection.MAXIMIZE else -1.0 for d in directions])
    codes, values, pending = [], [], []
    for trial in trials:
        if (code := _code(trial, ranked)) is not None:
            codes.append(code)
            values.append(sign * _values(trial, len(sign)))
            pending.append(not trial.state.is_finished())
    scores = scalarised(np.array(values).reshape(-1, len(sign)), rng)
    running = np.array(pending, bool)
    return History(
        np.array(codes, np.uint8).reshape(-1, len(ranked)),
        scores,
        np.isnan(scores) & ~running,
        running,
    )


def _code(trial: FrozenTrial, ranked: Sequence[ParameterOptions]) -> list[int] | None:
    """The option of each parameter; None if the trial lacks one or has it out of range."""
    known: Mapping[str, Any] = trial.params
    chosen: Mapping[str, int] = {}
    if not trial.state.is_finished():  # values that the objective has not asked for yet
        known = trial.system_attrs.get("fixed_params", {}) | trial.params
        chosen = trial.system_attrs.get(CHOSEN, {})
    code = []
    for options in ranked:
        if options.name in known:
            index = options.index(known[options.name])
        else:
            index = chosen.get(options.name)
        if index is None or index >= len(options.values):
            return None
        code.append(index)
    return code


def _values(trial: FrozenTrial, objectives: int) -> NDArray[np.float64]:
    """One value per objective, with the user's sign; NaN for a missing value."""
    if trial.state == TrialState.COMPLETE:
        return np.array(trial.values, np.float64)
    if trial.state == TrialState.PRUNED and objectives == 1 and trial.last_step is not None:
        return np.array([trial.intermediate_values[trial.last_step]], np.float64)
    return np.full(objectives, np.nan)


def scalarised(values: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """One score per trial from `values` [trials, objectives], of which higher is better.

    Several objectives are combined by the augmented Tchebycheff function (Knowles 2006, ParEGO,
    section II) of their ranks, so that their scales do not matter; the weights are drawn from
    `rng`. Scores are finite, or NaN for a trial without a value.
    """
    scored = ~np.isnan(values).any(axis=1)
    scores = np.full(len(values), np.nan)
    if not scored.any():
        return scores
    if values.shape[1] == 1:
        present = values[scored, 0]
        finite = present[np.isfinite(present)]
        ends = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
        scores[scored] = np.clip(present, *ends)
        return scores
    weights = rng.dirichlet(np.ones(values.shape[1]))
    regrets = np.zeros((int(scored.sum()), len(weights)))
    for place, column in enumerate(values[scored].T):
        _, ranks = np.unique(column, return_inverse=True)
        regrets[:, place] = weights[place] * (1 - ranks / max(1, int(ranks.max())))
    scores[scored] = -(regrets.max(axis=1) + 0.05 * regrets.sum(axis=1))
    return scores
