"""What a process that drives a run has of it in memory, with the changes of the present tick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_searcher.agent.study.events import Event, event_rows
from lm_searcher.agent.study.history_arrays import HistoryArrays
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.pruning import Pruning
from lm_searcher.agent.study.run_writer import Tick
from lm_searcher.agent.study.tables import to_json
from lm_searcher.agent.study.trial_documents import Draft, to_draft, to_row
from lm_searcher.spaces.history import Trial, TrialState


class RunMemory:
    """Trials, attributes and drafts of a run. No change costs more in a longer run."""

    def __init__(self, run: str, arrays: HistoryArrays, pruning: Pruning | None) -> None:
        self.run, self.arrays, self.pruning = run, arrays, pruning
        self.trials: list[Trial] = []
        self.drafts: dict[int, Draft] = {}
        """Of the pending trials, in the order of their numbers."""
        self.waiting: dict[int, None] = {}
        """Of those, the trials that have no place."""
        self.attributes: dict[str, Any] = {}
        """The run's own, and the records."""
        self._own: dict[str, Any] = {}
        self._next_event = 0
        self._forget_changes()

    def _forget_changes(self) -> None:
        self._before: dict[int, tuple[Trial, Draft] | None] = {}
        self._changed: dict[int, Draft] = {}
        self._attributes_before: dict[str, tuple[bool, Any]] = {}
        self._own_before: dict[str, Any] | None = None
        self._events: list[Event] = []

    def load(
        self,
        trials: Sequence[Trial],
        documents: Sequence[Mapping[str, Any]],
        own: Mapping[str, Any],
        records: Mapping[str, Any],
        next_event: int,
    ) -> None:
        """Take over what is stored; the trials with their documents."""
        self.trials, self.drafts = list(trials), {}
        self._own, self._next_event = dict(own), next_event
        self.attributes = self._own | dict(records)
        self.arrays.extend(self.trials)
        for trial, document in zip(trials, documents, strict=True):
            if not trial.state.finished:
                self.drafts[trial.number] = to_draft(document)
                self._note_waiting(trial)
            if self.pruning is not None:
                self.pruning.put(trial, to_draft(document))

    # -- changes -------------------------------------------------------------------------------

    def put(self, trial: Trial, draft: Draft) -> None:
        """Add the next trial, or change a pending one."""
        number = trial.number
        if number not in self._before:
            new = number == len(self.trials)
            self._before[number] = None if new else (self.trials[number], self.drafts[number])
        self._changed[number] = draft
        self._set(trial, draft)

    def _set(self, trial: Trial, draft: Draft) -> None:
        if trial.number == len(self.trials):
            self.trials.append(trial)
            self.arrays.extend([trial])
        else:
            self.trials[trial.number] = trial
            self.arrays.update(trial)
        if trial.state.finished:
            self.drafts.pop(trial.number, None)
        else:
            self.drafts[trial.number] = draft
        self._note_waiting(trial)
        if self.pruning is not None:
            self.pruning.put(trial, draft)

    def _note_waiting(self, trial: Trial) -> None:
        if trial.state is TrialState.WAITING:
            self.waiting[trial.number] = None
        else:
            self.waiting.pop(trial.number, None)

    def set_attribute(self, key: str, value: object, own: bool) -> None:
        """Change an attribute: the run's own, or a record's."""
        known = key in self.attributes
        self._attributes_before.setdefault(key, (known, self.attributes.get(key)))
        self.attributes[key] = value
        if own:
            self._own_before = dict(self._own) if self._own_before is None else self._own_before
            self._own[key] = value

    def log(self, event: Event) -> None:
        """Add an entry to the log."""
        self._events.append(event)

    # -- the end of a tick ---------------------------------------------------------------------

    def tick(self, objectives: ObjectiveSet) -> Tick | None:
        """What the present tick writes; None if nothing has changed."""
        if not (self._changed or self._events or self._own_before is not None):
            return None
        trials = [
            to_row(self.run, self.trials[number], draft, objectives)
            for number, draft in self._changed.items()
        ]
        events = event_rows(self.run, self._next_event, self._events)
        attributes = None if self._own_before is None else to_json(self._own)
        return Tick(attributes, trials, events)

    def settle(self) -> None:
        """The tick is written."""
        self._next_event += len(self._events)
        self._forget_changes()

    def undo(self) -> None:
        """The tick is not written: be as before it."""
        for number, before in reversed(self._before.items()):
            if before is None:
                self.trials.pop()
                self.drafts.pop(number, None)
                self.waiting.pop(number, None)
                self.arrays.truncate(number)
                if self.pruning is not None:
                    self.pruning.truncate(number)
            else:
                self._set(*before)
        for key, (known, value) in self._attributes_before.items():
            if known:
                self.attributes[key] = value
            else:
                del self.attributes[key]
        if self._own_before is not None:
            self._own = self._own_before
        self.drafts = {number: self.drafts[number] for number in sorted(self.drafts)}
        self._forget_changes()
