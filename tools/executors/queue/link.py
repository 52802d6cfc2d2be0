"""A connection to the queue's database that is made again when it breaks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from lm_searcher.spaces.errors import StoreError, first_line
from lm_searcher.tools.databases import (
    RETRY_SECONDS,
    WAITS,
    database_url,
    is_transient,
    postgresql_engine,
    shown,
    store_errors,
)
from lm_searcher.tools.executors.queue.tables import create_tables

T = TypeVar("T")

_CHECK_SECONDS = 0.5
"""The longest wait without a `check`."""

_NOT_DURABLE = text("SET LOCAL synchronous_commit = off")

_log = logging.getLogger("lm_searcher.executors")


class Link:
    """A connection to PostgreSQL, of one thread at a time. The queue's tables are there.

    It listens to `channel`, unless that is empty. `check` is called while a lost connection is
    awaited; what it raises ends the wait. Raises StoreError, at once if there is no such database.
    """

    def __init__(
        self, url: str, channel: str = "", check: Callable[[], None] = lambda: None
    ) -> None:
        self.url, self.channel, self.check = url, channel, check
        self.missed = False
        """Whether the connection is another one than before: notifications may have been missed.
        The reader sets this back."""
        self._connection: Connection | None = None
        with store_errors(url):
            parsed = database_url(url)
            if parsed.get_backend_name() != "postgresql":
                raise StoreError(f"store '{shown(url)}': a queue needs postgresql://...")
            parsed = parsed.set(drivername="postgresql+psycopg")
            self._engine = postgresql_engine(parsed, poolclass=NullPool)
        self.run(create_tables, patience=0.0)

    def run(
        self,
        act: Callable[[Connection], T],
        *,
        patience: float = RETRY_SECONDS,
        durable: bool = True,
    ) -> T:
        """What `act` returns: its statements are one transaction.

        A transaction that fails for a transient reason is repeated, for `patience` seconds: it may
        have been committed before, so it must leave what it leaves done once. One that need not be
        `durable` waits for no disk; a crash of the server may undo it. Raises StoreError.
        """
        began, attempt = time.monotonic(), 0
        with store_errors(self.url):
            while True:
                try:
                    connection = self._connected()
                    with connection.begin():
                        if not durable:
                            connection.execute(_NOT_DURABLE)
                        return act(connection)
                except DBAPIError as error:
                    if not is_transient(error) or time.monotonic() - began >= patience:
                        raise
                    self._disconnect()
                    if attempt == 1:
                        self._tell(error, patience)
                except BaseException:
                    self._disconnect()  # in whichever state it is
                    raise
                self._pause(WAITS[min(attempt, len(WAITS) - 1)])
                attempt += 1

    def listen(self, timeout: float) -> list[str]:
        """The notifications since the last call; waits up to `timeout` seconds for the first.

        Returns early if the connection breaks.
        """
        import psycopg

        if self._connection is None:
            self.run(lambda connection: None)
            return []
        driver: Any = self._connection.connection.driver_connection
        try:
            return [n.payload for n in driver.notifies(timeout=timeout, stop_after=1)]
        except psycopg.Error:
            self._disconnect()
            return []

    def close(self) -> None:
        """Let go of the connection."""
        self._disconnect()

    # -- the connection ------------------------------------------------------------------------

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
            self.missed = True
            if self.channel:
                quote = self._connection.dialect.identifier_preparer.quote_identifier
                with self._connection.begin():
                    self._connection.execute(text(f"LISTEN {quote(self.channel)}"))
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.invalidate()
            connection.close()

    def _tell(self, error: DBAPIError, patience: float) -> None:
        reason = first_line(error.orig or error)
        _log.warning(
            "store '%s': %s; trying again for %.0f minutes", shown(self.url), reason, patience / 60
        )

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        self.check()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _CHECK_SECONDS))
            self.check()
