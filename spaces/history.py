"""Trials and their history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.fidelity import Curves
from lm_searcher.spaces.ncode import Codes, NCode, to_codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.usage import Usage


class TrialState(StrEnum):
    """Optuna's words. PRUNED is stopped early with a value; FAIL has a reason instead; WAITING
    was cut short with its process, and is evaluated again when the run goes on."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self not in (TrialState.RUNNING, TrialState.WAITING)


@dataclass(frozen=True)
class Trial:
    """One evaluation of one architecture."""

    number: int
    ncode: NCode
    state: TrialState = TrialState.RUNNING
    value: float | None = None
    """The objective in the user's own sign, the first of several; None for running and failed
    trials."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    fidelity: float = 1.0
    """The share of the full budget that was spent on the value, in (0, 1]."""
    reason: str | None = None
    """Why it failed."""
    seconds: float | None = None
    curve: tuple[float, ...] = ()
    """The objective after each report, in order."""
    usage: Usage | None = None
    """What asking a model for this pick took; of a batch, the first trial has it for all."""
    values: tuple[float, ...] = ()
    """Every objective, in the user's own signs; empty for running and failed trials."""
    violation: float = 0.0
    """By how much the constraints are overstepped; 0 for a feasible trial."""


@dataclass(frozen=True)
class History:
    """What a ranker sees: every trial so far, as arrays, in order of trial number.

    Scores are higher-is-better whatever the objective's direction; NaN where there is none,
    that is for failed and for pending trials.
    """

    codes: Codes
    """Shape [trials, positions]."""
    scores: NDArray[np.float64]
    """Shape [trials]."""
    failed: NDArray[np.bool_]
    """Shape [trials]."""
    pending: NDArray[np.bool_]
    """Shape [trials]."""
    values: NDArray[np.float64] | None = None
    """Of several objectives, what the scores were made of: higher-is-better, shape
    [trials, objectives], NaN where there is no score."""

    @classmethod
    def empty(cls, positions: int) -> History:
        """No trials yet."""
        return cls(
            np.zeros((0, positions), np.uint8), np.zeros(0), np.zeros(0, bool), np.zeros(0, bool)
        )

    @classmethod
    def of(cls, space: SearchSpace, trials: Iterable[Trial], sign: float = 1.0) -> History:
        """The history of `trials`; `sign` is -1 where the objective is minimised.

        The scores of trials that were stopped early are estimates, see `final_scores`.
        """
        trials = list(trials)
        scores = [np.nan if t.value is None else sign * t.value for t in trials]
        return cls(
            to_codes((t.ncode for t in trials), len(space.positions)),
            equal_fidelity(trials, np.array(scores, np.float64), sign),
            np.array([t.state is TrialState.FAIL for t in trials], bool),
            np.array([not t.state.finished for t in trials], bool),
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __add__(self, later: History) -> History:
        return History(
            np.concatenate([self.codes, later.codes]),
            np.concatenate([self.scores, later.scores]),
            np.concatenate([self.failed, later.failed]),
            np.concatenate([self.pending, later.pending]),
            None if self.values is None else _stacked(self.values, later.values, len(later)),
        )

    def with_pending(self, codes: Codes) -> History:
        """With `codes` appended as trials whose outcome is not known yet."""
        n = len(codes)
        return self + History(codes, np.full(n, np.nan), np.zeros(n, bool), np.ones(n, bool))

    @property
    def scored(self) -> NDArray[np.intp]:
        """Indices of the trials that have a score."""
        return np.flatnonzero(~np.isnan(self.scores))

    def elites(self, k: int) -> NDArray[np.intp]:
        """Indices of the `k` best scored trials, best first, earliest first among equals."""
        scored = self.scored
        order = np.argsort(-self.scores[scored], kind="stable")
        return scored[order[:k]]


def _stacked(
    first: NDArray[np.float64], second: NDArray[np.float64] | None, rows: int
) -> NDArray[np.float64]:
    if second is None:
        second = np.full((rows, first.shape[1]), np.nan)
    return np.concatenate([first, second])


def reported(trial: Trial, sign: float) -> tuple[NDArray[np.float64], bool]:
    """A trial's reports, higher is better, and whether it was stopped after them."""
    return sign * np.array(trial.curve, np.float64), trial.state is TrialState.PRUNED


def equal_fidelity(
    trials: Iterable[Trial], scores: NDArray[np.float64], sign: float
) -> NDArray[np.float64]:
    """The scores of `trials`, higher is better, with estimates for those stopped early."""
    curves = Curves()
    for place, trial in enumerate(trials):
        curves.note(place, *reported(trial, sign))
    return curves.final(scores)
