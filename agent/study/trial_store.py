"""The trial store: a run's trials and records, in memory and in the database.

Questions are answered from memory. Changes are written by ticks: everything within
``with store.tick():`` is one transaction, committed whole or not at all. Values carry the user's
own signs; `history` turns them.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lm_searcher.agent.study.events import End, Event, Lost, Recorded
from lm_searcher.agent.study.history_arrays import HistoryArrays
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.pruning import Pruning
from lm_searcher.agent.study.record import Record
from lm_searcher.agent.study.records import is_record
from lm_searcher.agent.study.run_memory import RunMemory
from lm_searcher.agent.study.run_rows import next_event, read_events, read_records, read_trials
from lm_searcher.agent.study.run_writer import RunWriter
from lm_searcher.agent.study.storage import store_errors
from lm_searcher.agent.study.tables import RUN
from lm_searcher.agent.study.trial_documents import Draft, ended, to_json
from lm_searcher.spaces.history import History, Trial, TrialState
from lm_searcher.spaces.ncode import NCode
from lm_searcher.spaces.objectives import Values
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.usage import Usage
from lm_searcher.tools.protocols import Outcome

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


class TrialStore:
    """One run's trials and records. Only the holder of the run's lease writes them.

    Of one thread at a time. Every method that writes raises StoreError if the database fails or
    the lease was taken; memory is then as before the tick.
    """

    def __init__(
        self,
        writer: RunWriter,
        space: SearchSpace,
        objectives: ObjectiveSet,
        pruner: BasePruner | None = None,
    ) -> None:
        self.space, self.objectives, self._writer = space, objectives, writer
        self.id, self.name, self.url = writer.lease.run, writer.lease.name, writer.url
        pruning = None if pruner is None else Pruning(pruner, objectives)
        self._memory = RunMemory(self.id, HistoryArrays(space, objectives), pruning)
        self._in_tick = False

    def load(self) -> None:
        """Read what is stored of the run."""
        with store_errors(self.url), self._writer.engine.connect() as connection:
            query = RUN.select().where(RUN.c.id == self.id)
            own = json.loads(connection.execute(query).one().attributes)
            trials, documents = read_trials(connection, self.id, self.objectives)
            records = read_records(connection, self.id)
            self._memory.load(trials, documents, own, records, next_event(connection, self.id))

    # -- a tick --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def tick(self) -> Iterator[None]:
        """Write everything within as one transaction at the end; within another tick, as part of
        that one.

        If the block raises, or the transaction fails for good, nothing is written, and memory is
        as before.
        """
        if self._in_tick:
            yield
            return
        self._in_tick = True
        try:
            yield
            if (tick := self._memory.tick(self.objectives)) is not None:
                self._writer.write(tick)
        except BaseException:
            self._memory.undo()
            raise
        else:
            self._memory.settle()
        finally:
            self._in_tick = False

    def log(self, event: Event) -> None:
        """Add an entry to the run's log."""
        with self.tick():
            self._memory.log(event)

    def events(self) -> list[Event]:
        """The run's log as it is stored, the oldest first."""
        with store_errors(self.url), self._writer.engine.connect() as connection:
            return read_events(connection, self.id)

    # -- attributes of the run -----------------------------------------------------------------

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What is stored with the run beside its trials, records included."""
        return MappingProxyType(self._memory.attributes)

    def set_attribute(self, key: str, value: object) -> None:
        """Store a value with the run, as JSON."""
        with self.tick():
            self._memory.set_attribute(key, json.loads(to_json(value)), own=True)

    def write(self, key: str, record: Record) -> None:
        """Store a record of the run: as an entry of the log, or what has one value at a time as an
        attribute."""
        if is_record(key):
            self.record(key, record.document)
        else:
            self.set_attribute(key, record.document)

    def record(self, key: str, document: Mapping[str, Any]) -> None:
        """Store a record as an entry of the log; the last of a key counts."""
        with self.tick():
            event = Recorded(key=key, record=dict(document))
            self._memory.set_attribute(key, event.record, own=False)
            self._memory.log(event)

    # -- trials --------------------------------------------------------------------------------

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
        draft = Draft(ranker, round(time.time(), 3), account=dict(usage))
        trial = Trial(len(self), ncode, TrialState.WAITING, seed=seed, usage=spent)
        with self.tick():
            self._memory.put(trial, draft)
        return trial

    def begin(self, number: int) -> Trial:
        """A trial that waits has a place, and runs."""
        if number in self._memory.waiting:
            self._change(number, state=TrialState.RUNNING)
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
            trial = ended(self[number], outcome, fidelity, self.objectives)
            with self.tick():
                self._memory.put(trial, replace(draft, ended=round(time.time(), 3)))
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
