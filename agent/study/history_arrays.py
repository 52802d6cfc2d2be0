"""The history of a run as arrays that grow: a step must not cost more in a longer run."""

from __future__ import annotations

import numpy as np

from lm_searcher.agent.study.frozen_trials import ORDER
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.fidelity import Curves
from lm_searcher.spaces.history import History, Trial, TrialState, reported
from lm_searcher.spaces.ncode import to_codes
from lm_searcher.spaces.objectives import Values, penalised
from lm_searcher.spaces.space import SearchSpace


class HistoryArrays:
    """Codes, values, violations and states by trial number, with room to grow."""

    def __init__(self, space: SearchSpace, objectives: ObjectiveSet) -> None:
        self.objectives, self.size = objectives, 0
        self._codes = np.zeros((64, len(space.positions)), np.uint8)
        self._values = np.full((64, len(objectives.goals)), np.nan)
        self._violations = np.zeros(64)
        self._states = np.zeros(64, np.uint8)
        self._curves = Curves()

    def append(self, trial: Trial) -> None:
        """Add the next trial."""
        if trial.number == len(self._states):
            self._codes, self._values, self._violations, self._states = (
                np.concatenate([a, np.zeros_like(a)])
                for a in (self._codes, self._values, self._violations, self._states)
            )
        self._codes[trial.number] = to_codes([trial.ncode], self._codes.shape[1])[0]
        self.size = trial.number + 1
        self.update(trial)

    def update(self, trial: Trial) -> None:
        """Take over the values and the state of a trial."""
        self._values[trial.number] = self.objectives.row(trial)
        self._violations[trial.number] = trial.violation
        self._states[trial.number] = ORDER.index(trial.state)
        if trial.curve:
            self._curves.note(trial.number, *reported(trial, self.objectives.sign))

    def history(self, before: int | None, weights: Values | None) -> History:
        """See TrialStore.history."""
        n = self.size if before is None else min(before, self.size)
        values, violations = self._values[:n].copy(), self._violations[:n]
        values[:, 0] = self._curves.final(values[:, 0])
        return History(
            self._codes[:n].copy(),
            self.objectives.scores(values, violations, weights),
            self._states[:n] == ORDER.index(TrialState.FAIL),
            self._states[:n] <= ORDER.index(TrialState.RUNNING),
            penalised(values, violations) if self.objectives.several else None,
        )
