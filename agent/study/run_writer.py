"""Writing to a run: each tick is one transaction, under the lease."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Dialect, Engine
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.dml import Insert

from lm_searcher.agent.study.lease import Lease
from lm_searcher.agent.study.storage import shown, store_errors
from lm_searcher.agent.study.tables import EVENT, TRIAL
from lm_searcher.spaces.errors import StoreError, first_line
from lm_searcher.tools.databases import RETRY_SECONDS, WAITS, is_transient

_log = logging.getLogger("lm_searcher.store")

Rows = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Tick:
    """What a tick writes. Written twice, it leaves what it leaves written once."""

    attributes: str | None
    """All attributes of the run, as JSON; None if none has changed."""
    trials: Rows
    events: Rows


class RunWriter:
    """Writes the ticks of one run."""

    def __init__(self, engine: Engine, url: str, lease: Lease) -> None:
        self.engine, self.url, self.lease = engine, url, lease
        self._connection: Connection | None = None
        self._unsure = False
        self._upsert, self._append = _statements(engine.dialect)

    def write(self, tick: Tick) -> None:
        """Write a tick whole. Raises StoreError if that fails for good, or the lease was taken.

        A connection that is lost is made again and the same tick is written again, for
        RETRY_SECONDS: a commit whose answer was lost does no harm.
        """
        if self._unsure:
            raise StoreError(
                f"store '{shown(self.url)}': a transaction was cut short, and whether it was "
                f"committed is not known: open run '{self.lease.name}' again"
            )
        self._unsure = True
        with store_errors(self.url):
            self._attempt(tick)
        self._unsure = False

    def _attempt(self, tick: Tick) -> None:
        began, attempt, lost = time.monotonic(), 0, False
        while True:
            try:
                return self._write(tick)
            except StoreError:
                self._unsure = False
                raise
            except DBAPIError as error:
                transient = is_transient(error)
                self._unsure = lost = lost or transient
                if not transient or time.monotonic() - began > RETRY_SECONDS:
                    raise
                self._disconnect()
                if attempt == 1:
                    self._tell(error)
            time.sleep(WAITS[min(attempt, len(WAITS) - 1)])
            attempt += 1

    def _tell(self, error: DBAPIError) -> None:
        _log.warning(
            "store '%s': %s; trying again for %.0f minutes",
            shown(self.url),
            first_line(error.orig or error),
            RETRY_SECONDS / 60,
        )

    def _write(self, tick: Tick) -> None:
        if self._connection is None:
            self._connection = self.engine.connect()
        connection = self._connection
        with connection.begin():
            self.lease.renew(connection, tick.attributes)
            if tick.trials:
                connection.execute(self._upsert, tick.trials)
            if tick.events:
                connection.execute(self._append, tick.events)

    def _disconnect(self) -> None:
        """Let go of a connection that may be broken."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.invalidate()
            connection.close()

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _statements(dialect: Dialect) -> tuple[Insert, Insert]:
    """The statements that write a trial, and an event that is not there yet."""
    insert: Any = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    trial = insert(TRIAL)
    keys = ("run", "number")
    changed = {c.name: trial.excluded[c.name] for c in TRIAL.c if c.name not in keys}
    return (
        trial.on_conflict_do_update(index_elements=keys, set_=changed),
        insert(EVENT).on_conflict_do_nothing(index_elements=("run", "n")),
    )
