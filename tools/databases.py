"""Databases by URL: what the store and the queue of trials have in common."""

from __future__ import annotations

import contextlib
import importlib.util
import sqlite3
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import sqlalchemy
from sqlalchemy import URL, Engine
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError

from lm_searcher.spaces.errors import StoreError, first_line

CONNECT_SECONDS = 10
"""How long a connection to PostgreSQL may take."""

RETRY_SECONDS = 300.0
"""How long a transaction is tried again while PostgreSQL cannot be reached."""

WAITS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before each trial of a transaction after the first; the last for all others."""

TRANSIENT = ("08", "40001", "40P01", "53", "57P")
"""SQLSTATEs, or how they begin, of what passes: connection, conflict, resources, restart."""


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


def database_url(url: str) -> URL:
    """The URL for SQLAlchemy; PostgreSQL without a driver means psycopg 3 where it is installed."""
    parsed = sqlalchemy.make_url(url)
    if parsed.drivername == "postgresql" and importlib.util.find_spec("psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def postgresql_engine(url: URL, **options: Any) -> Engine:
    """The engine of a PostgreSQL database; connects when it is used."""
    arguments = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_SECONDS}
    return sqlalchemy.create_engine(url, pool_pre_ping=True, connect_args=arguments, **options)


def is_transient(error: DBAPIError) -> bool:
    """Whether the same transaction may succeed later: a server that is restarted, a conflict.

    SQLite has no server: what it does not do within its time-out is an error.
    """
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(TRANSIENT)
    no_server = type(error.orig).__module__.startswith("sqlite3")
    return not no_server and (error.connection_invalidated or isinstance(error, OperationalError))
