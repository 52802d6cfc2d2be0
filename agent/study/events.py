"""The log of a run: what was decided, what ended, what was lost, in the order in which it was."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from lm_searcher.agent.study.tables import RECORDED, to_json
from lm_searcher.spaces.history import TrialState
from lm_searcher.spaces.ncode import NCode


class Event(BaseModel):
    """An entry of the log."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: ClassVar[str]


class Ask(Event):
    """A decision: these trials begin. Logged in the tick that starts them."""

    kind: ClassVar = "ask"

    first: int
    """The number of the first of them."""
    n: int
    """How many picks were asked for."""
    ncodes: tuple[NCode, ...]


class End(Event):
    """A trial has finished."""

    kind: ClassVar = "end"

    trial: int
    state: TrialState


class Lost(Event):
    """The place of a trial was lost; the trial waits for another."""

    kind: ClassVar = "lost"

    trial: int
    attempt: int
    """The attempt that was lost, counted from 1."""
    reason: str


class Recorded(Event):
    """A record of the run (records.py); the last of a key counts."""

    kind: ClassVar = RECORDED

    key: str
    record: Any


class Migrated(Event):
    """The run was taken over from an earlier format; its log begins here."""

    kind: ClassVar = "migrated"

    trials: int
    """How many trials it had."""
    format: int


EVENTS: dict[str, type[Event]] = {e.kind: e for e in (Ask, End, Lost, Recorded, Migrated)}


def event_of(kind: str, document: str) -> Event:
    """The event of a row of the log."""
    return EVENTS[kind].model_validate(json.loads(document))


def event_rows(run: str, first: int, events: Iterable[Event]) -> list[dict[str, Any]]:
    """Events as rows of the log's table, from number `first` on."""
    return [
        {"run": run, "n": n, "kind": event.kind, "doc": to_json(event.model_dump())}
        for n, event in enumerate(events, start=first)
    ]
