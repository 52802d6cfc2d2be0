"""Reading a run from the store's tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, func, select

from lm_searcher.agent.study.events import Event, event_of
from lm_searcher.agent.study.lease import Clock, lease_columns
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.tables import EVENT, RECORDED, RUN, TRIAL
from lm_searcher.agent.study.trial_documents import trial_rows
from lm_searcher.spaces.history import Trial


def run_row(connection: Connection, name: str, clock: Clock | None = None) -> Row[Any] | None:
    """The run of that name: id, epoch, attributes, owner, age of the owner's beat."""
    columns = [RUN.c.id, RUN.c.epoch, RUN.c.attributes, *lease_columns(connection, clock)]
    return connection.execute(select(*columns).where(RUN.c.name == name)).first()


def read_attributes(connection: Connection, row: Row[Any]) -> dict[str, Any]:
    """The run's attributes, and the records of its log beside them."""
    attributes: dict[str, Any] = json.loads(row.attributes)
    return attributes | read_records(connection, row.id)


def read_records(connection: Connection, run: str) -> dict[str, Any]:
    """The records in a run's log by key; the last of a key counts."""
    mine = (EVENT.c.run == run) & (EVENT.c.kind == RECORDED)
    found = connection.execute(select(EVENT.c.doc).where(mine).order_by(EVENT.c.n))
    documents = map(json.loads, found.scalars())
    return {document["key"]: document["record"] for document in documents}


def read_trials(
    connection: Connection, run: str, objectives: ObjectiveSet
) -> tuple[list[Trial], list[Mapping[str, Any]]]:
    """A run's trials by number, and their documents."""
    columns = [TRIAL.c.number, TRIAL.c.ncode, TRIAL.c.state, TRIAL.c.attempt, TRIAL.c.doc]
    query = select(*columns).where(TRIAL.c.run == run).order_by(TRIAL.c.number)
    return trial_rows(connection.execute(query), objectives)


def read_events(connection: Connection, run: str) -> list[Event]:
    """A run's log, the oldest first."""
    query = select(EVENT.c.kind, EVENT.c.doc).where(EVENT.c.run == run).order_by(EVENT.c.n)
    return [event_of(kind, document) for kind, document in connection.execute(query)]


def next_event(connection: Connection, run: str) -> int:
    """The number of the next entry of a run's log."""
    last = connection.execute(select(func.max(EVENT.c.n)).where(EVENT.c.run == run)).scalar()
    return 0 if last is None else last + 1
