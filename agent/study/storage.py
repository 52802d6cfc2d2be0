"""Databases by URL: engines for the process that drives a run, and for readers."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import sqlalchemy
import sqlalchemy.event
from sqlalchemy import URL, Connection, Engine, text
from sqlalchemy.pool import QueuePool, StaticPool
from sqlalchemy.schema import CreateIndex, CreateTable

from lm_searcher.agent.study.sqlite_files import (
    BUSY_SECONDS,
    connect_memory,
    connect_reader,
    connect_writer,
    sqlite_path,
)
from lm_searcher.agent.study.tables import METADATA, RUN
from lm_searcher.spaces.errors import StoreError, one_line
from lm_searcher.tools.databases import database_url as database_url
from lm_searcher.tools.databases import postgresql_engine
from lm_searcher.tools.databases import shown as shown
from lm_searcher.tools.databases import store_errors as store_errors

MEMORY = "memory"
"""The store URL of a run that writes nothing to disk."""

ACCEPTED = "accepted: memory, sqlite:///PATH, postgresql://..."

OPTUNA = "studies"
"""The table by which a store of formats 1 and 2, or of another program with Optuna, is known."""


@contextlib.contextmanager
def open_engine(url: str, create: bool = True, empty: bool = False) -> Iterator[Engine]:
    """The database at a URL, `memory` included, with the store's tables; closed at the end.

    Without `create` it is for reading: a SQLite file must be there and is not written to, a
    transaction sees one state of the whole, and there must be runs, unless it may be `empty`.
    Raises StoreError.
    """
    with store_errors(url):
        engine = _engine(url, create)
    try:
        with store_errors(url), engine.connect() as connection:
            if create:
                _create_tables(connection)
            elif not (empty or url == MEMORY or _has_runs(connection)):
                raise StoreError(f"store '{shown(url)}': it holds no runs yet")
        yield engine
    finally:
        engine.dispose()


def _has_runs(connection: Connection) -> bool:
    return has_table(connection, RUN.name) or has_table(connection, OPTUNA)


def has_table(connection: Connection, name: str) -> bool:
    """Whether the database has a table of that name."""
    return sqlalchemy.inspect(connection).has_table(name)


def _engine(url: str, create: bool) -> Engine:
    path = sqlite_path(url)
    if url == MEMORY:
        return _sqlite(connect_memory, "BEGIN", StaticPool)
    if path is None:
        return _postgresql(database_url(url), create)
    if create:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"store '{shown(url)}': {one_line(error)}") from None
        return _sqlite(partial(connect_writer, path), "BEGIN IMMEDIATE")
    if not path.is_file():
        raise StoreError(f"store '{shown(url)}': no such file")
    return _sqlite(partial(connect_reader, path), "BEGIN")


def _sqlite(
    connect: Callable[[], sqlite3.Connection], begin: str, poolclass: Any = QueuePool
) -> Engine:
    """An engine whose transactions begin with `begin`: writers take the lock at once, so that no
    transaction fails half-way because another has written meanwhile."""
    engine = sqlalchemy.create_engine("sqlite://", creator=connect, poolclass=poolclass)

    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    sqlalchemy.event.listen(engine, "begin", on_begin)
    return engine


def _postgresql(url: URL, create: bool) -> Engine:
    if url.get_backend_name() != "postgresql":
        url.get_dialect()  # SQLAlchemy's own word for one that it does not know
        raise StoreError(f"store '{shown(url.render_as_string(False))}': no store; {ACCEPTED}")
    reading = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    return postgresql_engine(url, execution_options={} if create else reading)


def _create_tables(connection: Connection) -> None:
    """Make the tables that are missing; a role without the right to make any may use those there
    are."""
    if all(has_table(connection, name) for name in METADATA.tables):
        return
    connection.rollback()
    with connection.begin():
        one_at_a_time(connection)
        for table in METADATA.tables.values():
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))


def one_at_a_time(connection: Connection) -> None:
    """Let one process at a time open or make runs, until this transaction ends."""
    if connection.dialect.name == "postgresql":  # a SQLite transaction is alone anyway
        connection.execute(text(f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(7368787263)"))
