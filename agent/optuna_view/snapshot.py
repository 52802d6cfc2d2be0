"""One run as a study, as it is at one moment."""

from __future__ import annotations

from functools import cached_property

from optuna.study._frozen import FrozenStudy  # in the interface of every storage
from optuna.trial import FrozenTrial

from lm_searcher.agent.optuna_view.conversion import (
    distributions_of,
    frozen_trial,
    marks_of,
    study_of,
)
from lm_searcher.agent.results.result import Result

TRIALS = 10**9
"""A trial's id is its number plus this many for each study before its own."""


class Snapshot:
    """A run's study and trials, converted when they are first asked for.

    Trials that are the same `before` are not converted again.
    """

    _before: Snapshot | None

    def __init__(
        self, result: Result, study_id: int, listed: bool, before: Snapshot | None = None
    ) -> None:
        self.result, self._id, self._listed = result, study_id, listed
        if before is not None and "trials" not in before.__dict__:
            before = before._before  # so that no chain of snapshots stays in memory
        self._before = before

    @cached_property
    def study(self) -> FrozenStudy:
        """The study without its trials."""
        return study_of(self.result, self._id)

    @cached_property
    def marks(self) -> dict[int, str]:
        """See `marks_of`."""
        return marks_of(self.result)

    @cached_property
    def trials(self) -> list[FrozenTrial]:
        """The trials, by number."""
        known = self._known()
        self._before = None
        distributions = distributions_of(self.result.space)
        first, marks = self._id * TRIALS, self.marks
        return [
            known.get(t.number)
            or frozen_trial(
                t, first + t.number, self.result, distributions, marks.get(t.number), self._listed
            )
            for t in self.result.trials
        ]

    def _known(self) -> dict[int, FrozenTrial]:
        """The trials of the snapshot before that are still the same."""
        before = self._before
        if before is None or before.result.records.id != self.result.records.id:
            return {}
        same = zip(before.result.trials, self.result.trials, before.trials, strict=False)
        return {
            new.number: frozen
            for old, new, frozen in same
            if old == new and before.marks.get(old.number) == self.marks.get(new.number)
        }
