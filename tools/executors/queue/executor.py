"""The executor of a queue: the controller's side."""

from __future__ import annotations

import logging
import math
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row

from lm_searcher.spaces.errors import StoreError
from lm_searcher.tools.databases import shown
from lm_searcher.tools.executors.protocol import Began, Ended, Event, Site
from lm_searcher.tools.executors.queue.documents import ended_of, reports_of
from lm_searcher.tools.executors.queue.link import Link
from lm_searcher.tools.executors.queue.submitted import Tasks
from lm_searcher.tools.executors.queue.tables import ENDED, EXPIRY_SECONDS, news_channel
from lm_searcher.tools.protocols import Cancelled, Evaluation

_WAKE_SECONDS = 0.5
"""The longest wait without a look at `cancel`."""

_COUNT_SECONDS = 1.0
"""How often the places are counted, and silent workers looked for."""

_LOOK_SECONDS = 5.0
"""How often all tasks are looked at, whatever the notifications say."""

_CLOSE_SECONDS = 10.0
"""How long `close` waits for workers to end evaluations: they hear of it at once."""

_log = logging.getLogger("lm_searcher.executors")


@dataclass
class _Flight:
    """An evaluation that was submitted and has not ended."""

    attempt: int
    worker: str = ""
    """Who has it, as far as was told."""
    reports: int = 0
    """How many of its reports were told."""


@dataclass
class QueueExecutor:
    """Tasks in the PostgreSQL of the run's store, at most `workers` of them, which `lm-searcher
    worker` processes take.

    There is room for as many as workers are free, so that a decision is made when a worker is there
    to take it. Submitted tasks are written at the next `poll`, all at once. Tasks and outcomes
    outlive the controller, and a later controller of the run takes them over when it polls first.
    An outcome is removed with the poll after the one that returned it. A worker that was not heard
    of for `expiry` seconds has lost its evaluation.

    While PostgreSQL cannot be reached, `poll` tries again for five minutes. Raises StoreError.
    """

    site: Site
    workers: int
    expiry: float = EXPIRY_SECONDS
    notes: list[str] = field(default_factory=list, init=False)
    """Messages for the user; the caller shows each once and removes it."""
    _flights: dict[int, _Flight] = field(default_factory=dict, init=False)
    _events: list[Event] = field(default_factory=list, init=False)
    _submitted: list[tuple[Evaluation, int]] = field(default_factory=list, init=False)
    _stopped: list[int] = field(default_factory=list, init=False)
    _returned: list[tuple[int, int]] = field(default_factory=list, init=False)
    _silent: dict[str, float] = field(default_factory=dict, init=False)
    """When each worker was first found silent."""
    _told: set[str] = field(default_factory=set, init=False)
    _places: int = field(default=0, init=False)
    _found: int | None = field(default=None, init=False)
    """How many tasks of earlier controllers were there; None before they were claimed."""
    _closed: bool = field(default=False, init=False)
    _looked: float = field(default=-math.inf, init=False)
    _counted: float = field(default=-math.inf, init=False)
    _deadline: float = field(default=math.inf, init=False)

    def __post_init__(self) -> None:
        self._tasks = Tasks(self.site.id, uuid.uuid4().hex, self.expiry)
        self._link = Link(self.site.url, news_channel(self.site.id), self._check_cancelled)
        self._count()

    # -- the protocol --------------------------------------------------------------------------

    def room(self) -> int:
        """See Executor."""
        return max(0, min(self._places, self.workers) - len(self._flights))

    def submit(self, evaluation: Evaluation, attempt: int = 1) -> None:
        """See Executor."""
        self._flights[evaluation.key] = _Flight(attempt)
        self._submitted.append((evaluation, attempt))

    def stop(self, key: int) -> None:
        """See Executor."""
        if key in self._flights:
            self._stopped.append(key)

    def poll(self, timeout: float) -> list[Event]:
        """See Executor. Waits for a place if there is none, and returns early, without an event,
        if there is another, or a note. A beginning alone is no reason to return early."""
        self._change()
        until, room, notes = time.monotonic() + timeout, self.room(), len(self.notes)
        while True:
            self._hear(self._pause(until))
            if not any(isinstance(event, Ended) for event in self._events):
                self._check_cancelled()
            news = self._has_events() or self.room() > room or len(self.notes) > notes
            if news or time.monotonic() >= until or self._is_idle():
                break
        events, self._events = self._events, []
        self._returned += [(e.key, e.attempt) for e in events if isinstance(e, Ended)]
        return events

    def cancel(self, after: float = 0.0) -> None:
        """See Executor."""
        self._deadline = min(self._deadline, time.monotonic() + after)

    def close(self, keep: bool = False) -> None:
        """See Executor. What the database does not do now is left to a later controller."""
        if self._closed:
            return
        self._closed, self._deadline = True, math.inf
        try:
            if not keep:
                self._withdraw()
        except StoreError as error:
            _log.warning("%s", error)
        finally:
            self._link.close()

    # -- what has happened ---------------------------------------------------------------------

    def _change(self) -> None:
        """Write what was submitted, recorded and stopped since the last poll."""
        if self._found is None:
            self._found = self._link.run(self._tasks.claim)
        if not (self._returned or self._submitted or self._stopped):
            return
        self._link.run(
            lambda c: self._tasks.change(c, self._returned, self._submitted, self._stopped)
        )
        if self._found and self._submitted:
            self._look([evaluation.key for evaluation, _ in self._submitted])
        self._returned, self._submitted, self._stopped = [], [], []

    def _has_events(self) -> bool:
        return any(not isinstance(event, Began) for event in self._events)

    def _is_idle(self) -> bool:
        return not self._flights and self.room() > 0

    def _pause(self, until: float) -> float:
        """How long to wait for a notification."""
        now = time.monotonic()
        if self._has_events() or self._is_idle():
            return 0.0
        due = min(self._looked + _LOOK_SECONDS, self._counted + _COUNT_SECONDS)
        return max(0.0, min(until, self._deadline, due, now + _WAKE_SECONDS) - now)

    def _hear(self, timeout: float) -> None:
        """Wait for notifications, and look at the tasks that they name, or at all."""
        keys: list[int] | None = [int(payload) for payload in self._link.listen(timeout)]
        now = time.monotonic()
        if self._link.missed or now >= self._looked + _LOOK_SECONDS:
            self._link.missed, self._looked, keys = False, now, None
        if now >= self._counted + _COUNT_SECONDS:
            self._count()
        if self._flights and keys != []:
            self._look(keys)

    def _look(self, keys: list[int] | None) -> None:
        rows = self._link.run(lambda c: self._tasks.look(c, keys))
        for row in rows:
            flight = self._flights.get(row.key)
            if flight is not None and flight.attempt == row.attempt:
                self._read(flight, row)
        if keys is None:
            for key in self._flights.keys() - {row.key for row in rows}:
                attempt = self._flights.pop(key).attempt
                self._events.append(Ended(key, None, "its task was removed", attempt))

    def _read(self, flight: _Flight, row: Row[Any]) -> None:
        if row.worker and row.worker != flight.worker:
            flight.worker, flight.reports = row.worker, 0
            self._events.append(Began(row.key, row.place))
        reports = reports_of(row.key, row.reports, flight.reports)
        flight.reports += len(reports)
        self._events += reports
        if row.state == ENDED:
            del self._flights[row.key]
            self._events.append(ended_of(row.key, row.attempt, row.outcome))

    # -- workers -------------------------------------------------------------------------------

    def _count(self) -> None:
        """Count the places, and end the tasks of workers that are not heard of."""
        self._counted = now = time.monotonic()
        self._places = self._link.run(self._tasks.places)
        silent = self._link.run(self._tasks.silent)
        self._silent = {worker: self._silent.get(worker, now) for worker in silent}
        # A server that was away had every worker silent: each gets a while to be heard of.
        due = now - self.expiry / 3
        lost = [w for w, age in silent.items() if age > self.expiry and self._silent[w] <= due]
        if lost:
            self._link.run(lambda c: self._tasks.lose(c, lost))
            self._looked = -math.inf
        if self._places == 0:
            self._tell_why()

    def _tell_why(self) -> None:
        """Why there is no place, each cause once."""
        refusals = self._link.run(self._tasks.refusals)
        for place, reason in refusals.items():
            self._tell(f"the worker {place} cannot evaluate the trials: {reason}")
        if not refusals:
            start = f"lm-searcher worker '{shown(self.site.url)}'"
            self._tell(f"waiting for a free worker; start one by: {start}")

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            _log.info(text)
            self.notes.append(text)

    # -- the end -------------------------------------------------------------------------------

    def _check_cancelled(self) -> None:
        if time.monotonic() >= self._deadline:
            raise Cancelled

    def _withdraw(self) -> None:
        """Have workers end all evaluations, and wait until they have."""
        self._link.run(self._tasks.withdraw, patience=0.0)
        until = time.monotonic() + _CLOSE_SECONDS
        while self._link.run(self._tasks.left, patience=0.0) and time.monotonic() < until:
            self._link.listen(min(1.0, max(0.0, until - time.monotonic())))
        self._link.run(self._tasks.remove, patience=0.0)
