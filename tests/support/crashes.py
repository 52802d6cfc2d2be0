"""Deaths of the process that drives a run, at any of its commits."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import Connection, Engine, Pool, event


class Crash(BaseException):
    """The process has died; no code of its own runs any more, and nothing is written."""


@contextlib.contextmanager
def dying(at: int, written: bool) -> Iterator[None]:
    """Raise Crash at the `at`-th commit from here, counted from 1: after it if it is to be
    `written`, else before; and at every later one.

    Commits of the thread that keeps the lease do not count.
    """
    count, thread = itertools.count(1), threading.get_ident()

    def on_commit(connection: Connection) -> None:
        if threading.get_ident() != thread or (n := next(count)) < at:
            return
        if n == at and written:
            dbapi = connection.connection.dbapi_connection
            assert dbapi is not None
            dbapi.commit()
        raise Crash

    event.listen(Engine, "commit", on_commit)
    try:
        yield
    finally:
        event.remove(Engine, "commit", on_commit)


def let_lease_expire(store: Path) -> None:
    """As if the dead process had not been heard of for long."""
    with contextlib.closing(sqlite3.connect(store)) as connection, connection:
        tables = "SELECT name FROM sqlite_master WHERE name = 'lm_searcher_run'"
        if connection.execute(tables).fetchone():
            connection.execute("UPDATE lm_searcher_run SET beat = 0")


def every_crash(
    folder: Path,
    run: Callable[[Path], object],
    prepare: Callable[[Path], object] = Path.mkdir,
    before: bool = False,
) -> Iterator[tuple[str, Path]]:
    """For each commit of `run(place)`: the moment's name, and a `place` in which the run has died
    right after the commit, and, where that differs in more than the store, right `before` it.
    `prepare(place)` makes what the run begins with."""
    for at in itertools.count(1):
        for written in (False, True)[0 if before else 1 :]:
            moment = f"{'after' if written else 'before'} commit {at}"
            place = folder / moment.replace(" ", "-")
            prepare(place)
            with dying(at, written):
                try:
                    run(place)
                except Crash:
                    pass
                else:
                    return
            let_lease_expire(place / "run" / "trials.db")
            yield moment, place


@contextlib.contextmanager
def not_synchronized() -> Iterator[None]:
    """Commits do not wait for the disk, which matters to a power failure only."""

    def on_connect(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Pool, "connect", on_connect)
    try:
        yield
    finally:
        event.remove(Pool, "connect", on_connect)
