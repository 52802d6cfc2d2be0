"""The history of a run as arrays that grow: a step must not cost more in a longer run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.fidelity import Curves
from lm_searcher.spaces.history import History, Trial, TrialState, reported
from lm_searcher.spaces.ncode import to_codes
from lm_searcher.spaces.objectives import Values, penalised
from lm_searcher.spaces.space import SearchSpace

CODE_OF = {state: code for code, state in enumerate(TrialState)}
"""Codes of the states in an array: those still to come first."""


class HistoryArrays:
    """Codes, values, violations and states by trial number, with room to grow."""

    def __init__(self, space: SearchSpace, objectives: ObjectiveSet) -> None:
        self.objectives, self.size = objectives, 0
        self._codes = np.zeros((64, len(space.positions)), np.uint8)
        self._values = np.full((64, len(objectives.goals)), np.nan)
        self._violations = np.zeros(64)
        self._states = np.zeros(64, np.uint8)
        self._curves = Curves()
        self._with_curve: set[int] = set()

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
        for trial in trials:
            self._note(trial)

    def update(self, trial: Trial) -> None:
        """Take over the values, the state and the curve of a trial."""
        self._values[trial.number] = self.objectives.row(trial)
        self._violations[trial.number] = trial.violation
        self._states[trial.number] = CODE_OF[trial.state]
        self._note(trial)

    def _note(self, trial: Trial) -> None:
        if trial.curve or trial.number in self._with_curve:
            self._with_curve.add(trial.number)
            self._curves.note(trial.number, *reported(trial, self.objectives.sign))

    def truncate(self, size: int) -> None:
        """Forget the trials from number `size` on."""
        for number in self._with_curve.intersection(range(size, self.size)):
            self._curves.note(number, np.zeros(0), False)
            self._with_curve.discard(number)
        self.size = size

    def history(self, before: int | None, weights: Values | None) -> History:
        """See TrialStore.history."""
        n = self.size if before is None else min(before, self.size)
        values, violations = self._values[:n].copy(), self._violations[:n]
        values[:, 0] = self._curves.final(values[:, 0])
        return History(
            self._codes[:n].copy(),
            self.objectives.scores(values, violations, weights),
            self._states[:n] == CODE_OF[TrialState.FAIL],
            self._states[:n] <= CODE_OF[TrialState.RUNNING],
            penalised(values, violations) if self.objectives.several else None,
        )
