"""A run's log and attributes, and the ticks that write them and its trials.

Questions are answered from memory. Everything within ``with store.tick():`` is one transaction,
committed whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lm_searcher.agent.study.events import Event, Recorded
from lm_searcher.agent.study.history_arrays import HistoryArrays
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.pruning import Pruning
from lm_searcher.agent.study.record import Record
from lm_searcher.agent.study.records import is_record
from lm_searcher.agent.study.run_memory import RunMemory
from lm_searcher.agent.study.run_rows import next_event, read_events, read_records, read_trials
from lm_searcher.agent.study.run_writer import RunWriter
from lm_searcher.agent.study.storage import store_errors
from lm_searcher.agent.study.tables import RUN, to_json
from lm_searcher.spaces.space import SearchSpace

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


class RunStore:
    """What one run has stored. Only the holder of the run's lease writes.

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
