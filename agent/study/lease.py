"""The lease of a run: one process at a time drives it, wherever the others are.

The store has the owner's name, an epoch that counts the owners, and the owner's last beat. Every
transaction of the owner checks the epoch, so a process that has lost the lease writes no more.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Double, Engine, Row, bindparam, cast, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from lm_searcher.agent.study.owner import Owner
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.storage import open_engine
from lm_searcher.agent.study.tables import RUN
from lm_searcher.spaces.errors import StoreError

BEAT_SECONDS = 5.0
"""How often the owner of a lease is heard of, at least."""

EXPIRY_SECONDS = 30.0
"""An owner that was not heard of for so long has lost its lease to whoever wants it."""

Clock = Callable[[], float]
"""Seconds since 1970."""

_log = logging.getLogger("lm_searcher.store")


@dataclass(frozen=True)
class Lease:
    """The right of one process to write to a run."""

    run: str
    """The run's id."""
    name: str
    epoch: int
    owner: Owner
    clock: Clock | None = None
    """None: the database's own clock, where it has one."""

    def renew(self, connection: Connection, attributes: str | None = None) -> None:
        """Check the lease and write the beat, and the run's attributes if given, in the
        transaction of `connection`. Raises StoreError, naming the new owner, if the lease was
        taken."""
        values: dict[str, Any] = {"held_run": self.run, "held_epoch": self.epoch}
        if attributes is not None:
            values["attributes"] = attributes
        statement = RENEW_BY_SERVER
        if self.clock is not None or not has_clock(connection):
            statement, values["beat"] = RENEW, (self.clock or time.time)()
        if connection.execute(statement, values).rowcount == 1:
            return
        owner = connection.execute(select(RUN.c.owner).where(RUN.c.id == self.run)).scalar()
        if owner is None:
            raise StoreError(f"run '{self.name}' is not in its store any more")
        taken = f"{Owner.parse(owner)} has taken it over" if owner else "another took it over"
        raise StoreError(
            f"run '{self.name}': this process was not heard of for {EXPIRY_SECONDS:.0f} s and "
            f"drives the run no more: {taken}; nothing was written"
        )

    def release(self, connection: Connection) -> None:
        """Give the lease back, unless another has taken it."""
        values = {"held_run": self.run, "held_epoch": self.epoch, "owner": ""}
        connection.execute(RENEW, values)


SERVER_TIME = cast(func.extract("epoch", func.clock_timestamp()), Double)
RENEW = update(RUN).where(RUN.c.id == bindparam("held_run"), RUN.c.epoch == bindparam("held_epoch"))
RENEW_BY_SERVER = RENEW.values(beat=SERVER_TIME)


def has_clock(connection: Connection) -> bool:
    """Whether the database has a clock that all its clients share."""
    return connection.dialect.name == "postgresql"


def now(connection: Connection, clock: Clock | None) -> Any:
    """The time for a statement: by the given clock, the server's, or else this machine's."""
    if clock is None and has_clock(connection):
        return SERVER_TIME
    return (clock or time.time)()


def driver_of(owner: str, age: float) -> Owner | None:
    """Who drives a run whose lease reads so, heard of `age` seconds ago; None if nobody does."""
    if not owner or age > EXPIRY_SECONDS:
        return None
    found = Owner.parse(owner)
    return None if found.known_dead else found


def lease_columns(connection: Connection, clock: Clock | None = None) -> list[Any]:
    """Columns to select of a run: its owner, and the seconds since the owner's last beat."""
    return [RUN.c.owner, (now(connection, clock) - RUN.c.beat).label("age")]


def take(
    connection: Connection, row: Row[Any], name: str, owner: Owner, clock: Clock | None
) -> Lease:
    """The lease of the run of `row` (id, epoch, owner, age), taken within a transaction.

    Raises StoreError, naming the owner, if another drives the run.
    """
    if (driver := driver_of(row.owner, row.age)) is not None:
        raise StoreError(
            f"run '{name}' is locked: another process drives it ({driver}; heard of "
            f"{max(0.0, row.age):.0f} s ago); wait for it, end it, or choose another --name"
        )
    lease = Lease(row.id, name, row.epoch + 1, owner, clock)
    values = {"epoch": lease.epoch, "owner": owner.text, "beat": now(connection, clock)}
    connection.execute(update(RUN).where(RUN.c.id == row.id).values(values))
    return lease


@contextlib.contextmanager
def beating(engine: Engine, lease: Lease) -> Iterator[None]:
    """Keep the lease meanwhile: a thread writes its beat on a connection of its own."""
    ending = threading.Event()

    def beat() -> None:
        while not ending.wait(BEAT_SECONDS):
            try:
                with engine.begin() as connection:
                    lease.renew(connection)
            except StoreError:  # the next transaction says so to the user
                return
            except SQLAlchemyError as error:
                _log.debug("run '%s': no beat: %s", lease.name, error)

    thread = threading.Thread(target=beat, name=f"lease of {lease.name}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(BEAT_SECONDS)


def is_driven(files: RunFiles) -> bool:
    """Whether some process drives the run now. A store that cannot be read has no driver."""
    if not files.kept:
        return False
    with contextlib.suppress(StoreError, SQLAlchemyError):
        with open_engine(files.url, create=False) as engine, engine.connect() as connection:
            query = select(*lease_columns(connection)).where(RUN.c.name == files.name)
            row = connection.execute(query).first()
        return row is not None and driver_of(row.owner, row.age) is not None
    return False
