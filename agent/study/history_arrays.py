"""The history of a run as arrays that grow: a step must not cost more in a longer run."""

from __future__ import annotations

import bisect
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.fidelity import Curves
from lm_searcher.spaces.history import History, Trial, TrialState, reported
from lm_searcher.spaces.ncode import to_codes
from lm_searcher.spaces.objectives import Values, penalised
from lm_searcher.spaces.space import SearchSpace

CODE_OF = {state: code for code, state in enumerate(TrialState)}
"""Codes of the states in an array: those still to come first."""

LEADERS = 32
"""The number of best trials that are known at any time."""


class HistoryArrays:
    """Codes, values, violations and states by trial number, with room to grow.

    A history has views of these arrays: nothing is copied but the values, and these only if a
    trial finishes while someone still holds a history. A history never changes.
    """

    def __init__(self, space: SearchSpace, objectives: ObjectiveSet) -> None:
        self.objectives, self.size = objectives, 0
        self._codes = np.zeros((64, len(space.positions)), np.uint8)
        self._values = np.full((64, len(objectives.goals)), np.nan)
        self._violations = np.zeros(64)
        self._states = np.zeros(64, np.uint8)
        self._curves = Curves()
        self._with_curve: set[int] = set()
        self._leaders: list[tuple[float, int]] | None = []
        """(-score, number) of the best trials, best first; None: to be found anew."""
        self._lent: list[weakref.ref[NDArray[np.float64]]] = []
        """The views of the values in histories that may still be in use."""
        self._made: dict[tuple[int, bytes], History] = {}
        """The histories made since the last change, where making one takes long."""

    def extend(self, trials: Sequence[Trial]) -> None:
        """Add the next trials."""
        first, end = self.size, self.size + len(trials)
        while end > len(self._states):
            self._codes, self._values, self._violations, self._states = (
                np.concatenate([a, np.zeros_like(a)])
                for a in (self._codes, self._values, self._violations, self._states)
            )
        if not trials:
            return
        self._codes[first:end] = to_codes((t.ncode for t in trials), self._codes.shape[1])
        self._values[first:end], self._violations[first:end] = self.objectives.arrays(trials)
        self._states[first:end] = [CODE_OF[t.state] for t in trials]
        self.size = end
        self._made.clear()
        if not np.isnan(self._values[first:end, 0]).all():
            self._leaders = None
        for trial in trials:
            self._note_curve(trial)

    def update(self, trial: Trial) -> None:
        """Take over the values, the state and the curve of a trial."""
        number, row = trial.number, self.objectives.row(trial)
        self._made.clear()
        if not np.array_equal(self._values[number], row, equal_nan=True):
            self._lead(number, row)
            if any((view := lent()) is not None and number < len(view) for lent in self._lent):
                self._values, self._lent = self._values.copy(), []
            self._values[number] = row
        self._violations[number] = trial.violation
        self._states[number] = CODE_OF[trial.state]
        self._note_curve(trial)

    def _note_curve(self, trial: Trial) -> None:
        if trial.curve or trial.number in self._with_curve:
            self._with_curve.add(trial.number)
            self._curves.note(trial.number, *reported(trial, self.objectives.sign))

    def _lead(self, number: int, row: Values) -> None:
        """Keep the best trials up to date with the values of one."""
        if not np.isnan(self._values[number]).all():
            self._leaders = None  # it had others before
        elif self._leaders is not None and not np.isnan(row[0]):
            bisect.insort(self._leaders, (-row[0], number))
            del self._leaders[LEADERS:]

    def truncate(self, size: int) -> None:
        """Forget the trials from number `size` on."""
        for number in self._with_curve.intersection(range(size, self.size)):
            self._curves.note(number, np.zeros(0), False)
            self._with_curve.discard(number)
        self._codes, self._values = self._codes.copy(), self._values.copy()
        self._leaders, self._lent, self.size = None, [], size
        self._made.clear()

    def history(self, before: int | None, weights: Values | None) -> History:
        """See TrialStore.history."""
        n = self.size if before is None else min(before, self.size)
        if self.objectives.plain and not self._curves.any_stopped:
            return self._plain(n)
        key = (n, b"" if weights is None else weights.tobytes())
        if key not in self._made:
            self._made[key] = self._estimated(n, weights)
        return self._made[key]

    def _plain(self, n: int) -> History:
        """The first `n` trials where the values are the scores."""
        scores = _read_only(self._values[:n, 0])
        self._lent = [lent for lent in self._lent if lent() is not None] + [weakref.ref(scores)]
        history = History(_read_only(self._codes[:n]), scores, *self._masks(n))
        if self._leaders is None:
            if n < self.size:
                return history
            best = history.elites(LEADERS)
            self._leaders = list(zip((-scores[best]).tolist(), best.tolist(), strict=True))
        leading = np.array([number for _, number in self._leaders if number < n], np.intp)
        return replace(history, leading=leading)

    def _estimated(self, n: int, weights: Values | None) -> History:
        """The first `n` trials where scores are computed from all of them."""
        values, violations = self._values[:n].copy(), self._violations[:n]
        values[:, 0] = self._curves.final(values[:, 0])
        return History(
            _read_only(self._codes[:n]),
            _read_only(self.objectives.scores(values, violations, weights)),
            *self._masks(n),
            _read_only(penalised(values, violations)) if self.objectives.several else None,
        )

    def _masks(self, n: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which of the first `n` trials have failed, and which are pending."""
        states = self._states[:n]
        return (
            states == CODE_OF[TrialState.FAIL],
            states <= CODE_OF[TrialState.RUNNING],
        )


def _read_only(view: NDArray[np.generic]) -> NDArray[Any]:
    view.flags.writeable = False
    return view
