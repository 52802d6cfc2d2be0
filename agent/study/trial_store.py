"""The trial store: a run's trials, in memory and in the database.

Values carry the user's own signs; `history` turns them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lm_searcher.agent.study.events import End, Lost
from lm_searcher.agent.study.run_store import RunStore
from lm_searcher.agent.study.trial_documents import Draft, ended
from lm_searcher.spaces.history import History, Trial, TrialState
from lm_searcher.spaces.ncode import NCode
from lm_searcher.spaces.objectives import Values
from lm_searcher.spaces.usage import Usage
from lm_searcher.tools.protocols import Outcome


class TrialStore(RunStore):
    """A run with its trials. What changes them is part of a tick, or one of its own."""

    def __len__(self) -> int:
        return len(self._memory.trials)

    def __getitem__(self, number: int) -> Trial:
        return self._memory.trials[number]

    @property
    def trials(self) -> Sequence[Trial]:
        """Every trial, by number; grows as the run does."""
        return self._memory.trials

    @property
    def pending(self) -> list[int]:
        """The numbers of the trials that run or wait, ascending."""
        return list(self._memory.drafts)

    @property
    def waiting(self) -> list[int]:
        """The numbers of the trials that have no place yet, or no longer, ascending."""
        return sorted(self._memory.waiting)

    def history(self, before: int | None = None, weights: Values | None = None) -> History:
        """The trials with a number below `before`, as a ranker sees them.

        Scores are of equal fidelity: trials that were stopped early have estimates of what they
        would have come to (spaces/fidelity.py). With several objectives they are scalarised with
        `weights`; without these they tell domination ranks, as memory and the stopping rules see
        the trials.
        """
        return self._memory.arrays.history(before, weights)

    def add(self, ncode: NCode, seed: int, ranker: str, usage: Mapping[str, Any] = {}) -> Trial:
        """The next trial, which waits for a place. `usage` is what asking a model for the pick
        took."""
        spent = Usage.of(usage) if usage else None
        draft = Draft(ranker, account=dict(usage))
        trial = Trial(len(self), ncode, TrialState.WAITING, seed=seed, usage=spent)
        with self.tick():
            self._memory.put(trial, draft)
        return trial

    def begin(self, number: int) -> Trial:
        """A trial that waits has a place, and runs."""
        if number in self._memory.waiting:
            began = self[number].began
            began = _now() if began is None else began
            self._change(number, state=TrialState.RUNNING, place="", began=began)
        return self[number]

    def place(self, number: int, place: str) -> Trial:
        """Store where a pending trial runs."""
        if number in self._memory.drafts and self[number].place != place:
            self._change(number, place=place)
        return self[number]

    def report(self, number: int, step: int, value: float) -> bool:
        """Record one point of a learning curve; whether the pruner stops the trial here.

        A step that was reported before, or lies before one that was, begins the curve anew from
        there: the trial is evaluated once more.
        """
        if not math.isfinite(value) or number not in self._memory.drafts:
            return False
        draft, kept = self._memory.drafts[number], 0
        while kept < len(draft.steps) and draft.steps[kept] < step:
            kept += 1
        marks = {name: mark for name, mark in draft.marks.items() if mark[0] < step}
        draft = replace(draft, steps=(*draft.steps[:kept], step), marks=marks)
        pruning = self._memory.pruning
        with self.tick():
            self._change(number, draft, curve=(*self[number].curve[:kept], value))
            if pruning is None:
                return False
            stop, new = pruning.judge(number)
            if new:
                marks |= {name: (step, mark) for name, mark in new.items()}
                self._change(number, replace(draft, marks=marks))
            return stop

    def finish(self, number: int, outcome: Outcome, fidelity: float = 1.0) -> Trial:
        """Store the outcome of a pending trial; a trial without all metrics has failed.

        A trial that has finished already is left as it is: its first outcome counts.
        """
        if (draft := self._memory.drafts.get(number)) is not None:
            trial = ended(self[number], outcome, fidelity, self.objectives, _now())
            with self.tick():
                self._memory.put(trial, draft)
                self._memory.log(End(trial=number, state=trial.state))
        return self[number]

    def lose(self, number: int, reason: str) -> Trial:
        """The place of a pending trial was lost: it waits for another, its curve begins anew."""
        if (draft := self._memory.drafts.get(number)) is not None:
            attempt = self[number].attempt
            with self.tick():
                self._change(
                    number,
                    replace(draft, steps=(), marks={}),
                    state=TrialState.WAITING,
                    attempt=attempt + 1,
                    curve=(),
                    place="",
                    began=None,
                )
                self._memory.log(Lost(trial=number, attempt=attempt, reason=reason))
        return self[number]

    def put_back(self) -> None:
        """Make running trials wait: their process has ended, and they are evaluated again."""
        with self.tick():
            for number in self.pending:
                if self[number].state is TrialState.RUNNING:
                    self._change(number, state=TrialState.WAITING)

    def _change(self, number: int, draft: Draft | None = None, **fields: Any) -> None:
        """Change a pending trial."""
        with self.tick():
            trial = replace(self[number], **fields)
            self._memory.put(trial, draft or self._memory.drafts[number])


def _now() -> float:
    """Seconds since 1970."""
    return round(time.time(), 3)
