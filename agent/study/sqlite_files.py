"""SQLite stores as files: who may write, and how much is on the disk after a commit."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote, unquote

BUSY_SECONDS = 30
"""How long a write waits for another process's write to a SQLite store."""


def sqlite_path(url: str) -> Path | None:
    """The file behind a SQLite URL; None for any other store."""
    path = url.removeprefix("sqlite:///")
    return Path(unquote(path)) if path != url else None


def connect_memory() -> sqlite3.Connection:
    """A database that ends with its connection."""
    return _connect(":memory:")


def connect_writer(path: Path) -> sqlite3.Connection:
    """A connection to a file that is made if there is none. Readers never block it, and a power
    cut takes nothing that was committed."""
    connection = _connect(_uri(path, "mode=rwc"))
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads, and needs no right to write.

    SQLite itself needs that right to make the files beside a store that nobody has open. Such a
    store does not change, so without the right it is read as a file that cannot.
    """
    connection = _connect(_uri(path, "mode=ro"))
    try:
        connection.execute("SELECT name FROM sqlite_master LIMIT 1")
    except sqlite3.OperationalError as error:
        connection.close()
        log = path.with_name(path.name + "-wal")
        denied = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
        if not denied or (log.exists() and log.stat().st_size):
            raise
        return _connect(_uri(path, "mode=ro&immutable=1"))
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _connect(place: str) -> sqlite3.Connection:
    return sqlite3.connect(
        place, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def _uri(path: Path, options: str) -> str:
    return f"file:{quote(str(path))}?{options}"
