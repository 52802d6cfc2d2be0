"""Trials and their history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.fidelity import Curves
from lm_searcher.spaces.ncode import Codes, NCode, to_codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.usage import Usage


class TrialState(StrEnum):
    """The states of an Optuna trial.

    PRUNED: stopped early, with a value. FAIL: no value, but a reason. WAITING: interrupted with
    its process; evaluated again when the run resumes.
    """

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"

    @property
    def finished(self) -> bool:
        """Whether the trial has its final result."""
        return self not in (TrialState.RUNNING, TrialState.WAITING)


@dataclass(frozen=True)
class Trial:
    """One evaluation of one architecture."""

    number: int
    ncode: NCode
    state: TrialState = TrialState.RUNNING
    value: float | None = None
    """The objective in the user's own sign, the first if there are several; None for running and
    failed trials."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    fidelity: float = 1.0
    """The share of the full training budget behind the value, in (0, 1]."""
    reason: str | None = None
    """Why the trial failed."""
    seconds: float | None = None
    curve: tuple[float, ...] = ()
    """The objective after each report, in order."""
    usage: Usage | None = None
    """Usage of the language model for this pick; the first trial of a batch has that of all."""
    values: tuple[float, ...] = ()
    """Every objective, in the user's own signs; empty for running and failed trials."""
    violation: float = 0.0
    """The sum of the constraint violations; 0 for a feasible trial."""
    attempt: int = 1
    """How many places the evaluation has had: 1 unless one was lost with it."""
    place: str = ""
    """Where it runs, or ran; empty where there is one place only."""
    began: float | None = field(default=None, compare=False)
    """When the evaluation began, in seconds since 1970; None where it was not stored."""
    ended: float | None = field(default=None, compare=False)
    """When the trial finished, likewise; None for unfinished trials."""


@dataclass(frozen=True)
class History:
    """All trials of a run as arrays, in order of trial number: the input of a ranker.

    Scores are higher-is-better for every direction of the objective. Failed and pending trials
    have no score: NaN.
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
    """The several objectives behind the scores: higher-is-better, shape [trials, objectives], NaN
    for trials without a score. None for a single objective."""
    leading: NDArray[np.intp] | None = None
    """What `elites` returns for as many trials, where it is known: saves a look at all trials."""

    @classmethod
    def empty(cls, positions: int) -> History:
        """No trials yet."""
        return cls(
            np.zeros((0, positions), np.uint8), np.zeros(0), np.zeros(0, bool), np.zeros(0, bool)
        )

    @classmethod
    def of(cls, space: SearchSpace, trials: Iterable[Trial], sign: float = 1.0) -> History:
        """The history of `trials`; `sign` is -1 if the objective is minimised.

        Scores of trials that were stopped early are estimates, see `final_scores`.
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
        """The history with `codes` appended as pending trials."""
        n = len(codes)
        if not n:
            return self
        more = History(codes, np.full(n, np.nan), np.zeros(n, bool), np.ones(n, bool))
        return replace(self + more, leading=self.leading)

    @property
    def scored(self) -> NDArray[np.intp]:
        """Indices of the trials that have a score."""
        return np.flatnonzero(~np.isnan(self.scores))

    def latest(self, k: int) -> NDArray[np.intp]:
        """Indices of the last `k` trials that have a score, ascending."""
        n, looked = len(self), 2 * k
        while True:
            first = max(0, n - looked)
            scored = first + np.flatnonzero(~np.isnan(self.scores[first:]))
            if len(scored) >= k or first == 0:
                return scored[max(0, len(scored) - k) :]
            looked *= 4

    def elites(self, k: int) -> NDArray[np.intp]:
        """Indices of the `k` best scored trials, best first, earliest first among equals."""
        if self.leading is not None and k <= len(self.leading):
            return self.leading[:k]
        scored = self.scored
        losses = -self.scores[scored]
        if 0 < k < len(scored):  # only those as good as the k-th need to be sorted
            good = np.flatnonzero(losses <= np.partition(losses, k - 1)[k - 1])
            scored, losses = scored[good], losses[good]
        return scored[np.argsort(losses, kind="stable")[:k]]


def _stacked(
    first: NDArray[np.float64], second: NDArray[np.float64] | None, rows: int
) -> NDArray[np.float64]:
    if second is None:
        second = np.full((rows, first.shape[1]), np.nan)
    return np.concatenate([first, second])


def reported(trial: Trial, sign: float) -> tuple[NDArray[np.float64], bool]:
    """A trial's learning curve, higher is better, and whether the trial was stopped early."""
    return sign * np.array(trial.curve, np.float64), trial.state is TrialState.PRUNED


def equal_fidelity(
    trials: Iterable[Trial], scores: NDArray[np.float64], sign: float
) -> NDArray[np.float64]:
    """`scores` of `trials`, higher is better, with estimates for trials stopped early."""
    curves = Curves()
    for number, trial in enumerate(trials):
        curves.note(number, *reported(trial, sign))
    return curves.final(scores)
