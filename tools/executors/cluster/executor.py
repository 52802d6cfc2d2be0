"""The executor of a Ray cluster: the controller's end of the driver."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
import uuid
from dataclasses import dataclass, field

from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.tools.executors.cluster.connecting import checked_address
from lm_searcher.tools.executors.cluster.link import Link
from lm_searcher.tools.executors.cluster.messages import (
    Answer,
    Connect,
    Connected,
    Gone,
    Happened,
    Note,
    Refused,
    Settle,
    Stop,
    Submit,
    Taken,
    Work,
)
from lm_searcher.tools.executors.cluster.slot_worker import pickled
from lm_searcher.tools.executors.protocol import Began, Ended, Event, Reported, Site
from lm_searcher.tools.protocols import Cancelled, Evaluation, Evaluator

_WAKE_SECONDS = 0.5
"""The longest wait without a look at `cancel`."""

_BEGAN_SECONDS = 0.5
"""The longest that the beginning of an evaluation waits for other events."""

_log = logging.getLogger("lm_searcher.executors")


@dataclass
class _Flight:
    """An evaluation that was submitted and has not ended."""

    evaluation: Evaluation
    attempt: int
    begun: bool = False
    reports: int = 0
    stopping: bool = False

    def submit(self) -> Submit:
        """The message to a driver."""
        return Submit(self.evaluation, self.attempt, self.begun, self.reports)


@dataclass
class RayExecutor:
    """Slots on the nodes of a Ray cluster, one evaluation each.

    A slot gets the share `gpus` of a GPU (None: 1, or 0 in a cluster without GPUs) and `cpus`
    processors (None: 0 with a GPU, else 1). There are as many as the nodes have room for, at most
    `workers`; they follow nodes that come and go. `seconds` and `memory` as for LocalExecutor.

    Slots outlive the controller by `orphan` seconds, with what they evaluate and its outcome: a
    controller of the same `site` finds it again. What an earlier controller submitted, and this
    one has not submitted when it polls first, is ended. A slot forgets an outcome when `poll` or
    `submit` is called after the poll that returned it. The newest controller is obeyed; an earlier
    one gets EvaluatorError.

    With `ahead` there is room for so many evaluations more than there are places: they wait in the
    driver, and a place that becomes free need not wait for the controller.

    If the cluster is gone, `poll` waits for it. What evaluations print goes to the log of the
    site, as does what Ray writes. Raises ConfigError if no such cluster is there; `room` grows as
    slots become ready, and `poll` raises EvaluatorError if the evaluator does not start.
    """

    evaluator: Evaluator
    workers: int = 10_000
    address: str = "auto"
    gpus: float | None = None
    cpus: float | None = None
    seconds: float | None = None
    memory: int | None = None
    orphan: float = 600.0
    ahead: int = 0
    site: Site = field(default_factory=Site)
    notes: list[str] = field(default_factory=list, init=False)
    """Messages for the user; the caller shows each once and removes it."""
    _flights: dict[int, _Flight] = field(default_factory=dict, init=False)
    _events: list[Event] = field(default_factory=list, init=False)
    _places: int = field(default=0, init=False)
    _returned: list[int] = field(default_factory=list, init=False)
    _settled: bool = field(default=False, init=False)
    _deadline: float = field(default=math.inf, init=False)
    _began_due: float = field(default=math.inf, init=False)

    def __post_init__(self) -> None:
        work = Work(
            evaluator=pickled(self.evaluator),
            seconds=self.seconds,
            memory=self.memory,
            gpus=0.0,
            cpus=0.0,
            orphan=self.orphan,
            folder=os.getcwd(),
            path=tuple(path for path in sys.path if path),
        )
        connect = Connect(
            address=checked_address(self.address),
            namespace=f"lm-searcher-{self.site.id or uuid.uuid4().hex}",
            name=uuid.uuid4().hex,
            workers=self.workers,
            work=work,
            gpus=self.gpus,
            cpus=self.cpus,
        )
        self._link = Link(connect, self.site.log)

    # -- the protocol --------------------------------------------------------------------------

    def room(self) -> int:
        """See Executor. Grows as slots start, and as nodes join."""
        ahead = self.ahead if self._places else 0
        return max(0, self._places + ahead - len(self._flights))

    def submit(self, evaluation: Evaluation, attempt: int = 1) -> None:
        """See Executor. What a slot holds needs no room; the rest waits where there is none."""
        self._take()
        flight = self._flights[evaluation.key] = _Flight(evaluation, attempt)
        self._link.send(flight.submit())

    def poll(self, timeout: float) -> list[Event]:
        """See Executor. Waits for a place if there is none, and returns early, without an event,
        if a place has been added or there is a note."""
        if not self._settled:
            self._settled = True
            self._link.send(Settle())
        self._take()
        until, room, notes = time.monotonic() + timeout, self.room(), len(self.notes)
        while True:
            for answer in self._link.read(self._wait(until)):
                self._hear(answer)
            now = time.monotonic()
            if now >= self._deadline and not any(isinstance(e, Ended) for e in self._events):
                raise Cancelled
            if self._is_due() or self.room() > room or len(self.notes) > notes:
                break
            if now >= until or self._is_idle():
                return []
        events, self._events, self._began_due = self._events, [], math.inf
        self._returned += [event.key for event in events if isinstance(event, Ended)]
        return events

    def stop(self, key: int) -> None:
        """See Executor."""
        if (flight := self._flights.get(key)) is not None:
            flight.stopping = True
            self._link.send(Stop(key))

    def cancel(self, after: float = 0.0) -> None:
        """See Executor."""
        self._deadline = min(self._deadline, time.monotonic() + after)

    def close(self, keep: bool = False) -> None:
        """See Executor."""
        self._take()
        self._link.close(keep)

    # -- the driver ----------------------------------------------------------------------------

    def _is_due(self) -> bool:
        """Whether there are events to be returned. A beginning waits for what comes next, though
        not for long: it is to be shown, and the caller's work for it delays the next evaluation."""
        waiting = all(isinstance(event, Began) for event in self._events)
        return not waiting or time.monotonic() >= self._began_due

    def _is_idle(self) -> bool:
        return not self._flights and self.room() > 0

    def _wait(self, until: float) -> float:
        """How long to wait for a message."""
        if self._is_due() or self._is_idle():
            return 0.0
        now = time.monotonic()
        return max(0.0, min(until, self._deadline, self._began_due, now + _WAKE_SECONDS) - now)

    def _take(self) -> None:
        """Outcomes that were returned before are recorded by now."""
        if self._returned:
            keys, self._returned = tuple(self._returned), []
            self._link.send(Taken(keys))

    def _hear(self, answer: Answer) -> None:
        match answer:
            case Happened(events, places):
                self._places = places
                for event in events:
                    self._hear_event(event)
            case Note(text):
                self._tell(text)
            case Refused(reason):
                raise EvaluatorError(reason)
            case Gone():
                self._places = 0
                self._tell("the connection to the Ray cluster is lost; trying again")
            case Connected():
                self._tell("connected to the Ray cluster again")
                self._resume()

    def _resume(self) -> None:
        """Tell a new driver what the last one knew."""
        for flight in self._flights.values():
            self._link.send(flight.submit())
            if flight.stopping:
                self._link.send(Stop(flight.evaluation.key))
        if self._settled:
            self._link.send(Settle())

    def _hear_event(self, event: Event) -> None:
        flight = self._flights.get(event.key)
        if flight is None:
            return
        if isinstance(event, Began):
            if flight.begun:  # found again by another driver
                return
            flight.begun = True
            self._began_due = min(self._began_due, time.monotonic() + _BEGAN_SECONDS)
        elif isinstance(event, Reported):
            flight.reports += 1
        else:
            del self._flights[event.key]
        self._events.append(event)

    def _tell(self, text: str) -> None:
        _log.info(text)
        self.notes.append(text)
