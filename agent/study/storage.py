"""Databases by URL: engines for the process that drives a run, and for readers."""

from __future__ import annotations

import contextlib
import importlib.util
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import unquote

import sqlalchemy
import sqlalchemy.event
from sqlalchemy import URL, Connection, Engine, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
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
from lm_searcher.spaces.errors import StoreError, first_line, one_line

MEMORY = "memory"
"""The store URL of a run that writes nothing to disk."""

CONNECT_SECONDS = 10
"""How long a connection to PostgreSQL may take."""

ACCEPTED = "accepted: memory, sqlite:///PATH, postgresql://..."

OPTUNA = "studies"
"""The table by which a store of formats 1 and 2, or of another program with Optuna, is known."""


def shown(url: str) -> str:
    """A store's URL without its password, for messages and for the stored settings."""
    try:
        parsed = sqlalchemy.make_url(url)
    except ArgumentError:
        return url
    if "password" in parsed.query:  # which PostgreSQL takes too
        parsed = parsed.update_query_dict({"password": "***"})
        return unquote(parsed.render_as_string(hide_password=True))
    return parsed.render_as_string(hide_password=True) if parsed.password else url


@contextlib.contextmanager
def store_errors(url: str) -> Iterator[None]:
    """Turn the errors of a database into a StoreError of one line."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise StoreError(f"store '{shown(url)}': {_advice(first_line(cause, 300))}") from error
    except sqlite3.Error as error:
        raise StoreError(f"store '{shown(url)}': {_advice(str(error))}") from error
    except ImportError as error:
        raise StoreError(
            f"store '{shown(url)}' wants a database driver that is not installed "
            "(PostgreSQL: pip install 'lm-searcher[postgres]')"
        ) from error


def _advice(text: str) -> str:
    if "locked" in text or "lock timeout" in text:
        return f"the database is locked by another process; end it, or wait ({text})"
    if "readonly database" in text:
        return f"there is no right to write to it ({text})"
    if "not a database" in text or "malformed" in text:
        return f"this file is no SQLite database ({text})"
    return text[:300]


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


def database_url(url: str) -> URL:
    """The URL for SQLAlchemy; PostgreSQL without a driver means psycopg 3 where it is installed."""
    parsed = sqlalchemy.make_url(url)
    if parsed.drivername == "postgresql" and importlib.util.find_spec("psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def _postgresql(url: URL, create: bool) -> Engine:
    if url.get_backend_name() != "postgresql":
        url.get_dialect()  # SQLAlchemy's own word for one that it does not know
        raise StoreError(f"store '{shown(url.render_as_string(False))}': no store; {ACCEPTED}")
    arguments = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_SECONDS}
    reading = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    return sqlalchemy.create_engine(
        url,
        pool_pre_ping=True,
        connect_args=arguments,
        execution_options={} if create else reading,
    )


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
