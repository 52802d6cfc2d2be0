"""The tables of the queue, beside those of the store, and how its two sides wake each other.

lm_searcher_task     an evaluation that was submitted: who has it, its reports and its outcome
lm_searcher_worker   a process that takes evaluations, and when it was last heard of

A task is deleted once its outcome is recorded, so the table is as long as trials are pending. All
times are seconds of the server's clock.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Connection,
    Double,
    Integer,
    MetaData,
    Table,
    Text,
    cast,
    func,
    inspect,
    text,
)
from sqlalchemy.schema import CreateTable

METADATA = MetaData()

WAITING, RUNNING, ENDED = "waiting", "running", "ended"
"""States of a task."""

GO_ON, STOP, END = 0, 1, 2
"""What the controller wishes of a task: nothing, an early stop at the next report, its end."""

TASK = Table(
    "lm_searcher_task",
    METADATA,
    Column("run", Text, primary_key=True),
    Column("key", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("controller", Text, nullable=False),  # the process that drives the run
    Column("worker", Text, nullable=False),  # who has taken it; empty: nobody, or no longer
    Column("place", Text, nullable=False),  # where that is, for users
    Column("wish", Integer, nullable=False),
    Column("submitted", Double, nullable=False),
    Column("evaluation", Text, nullable=False),  # the rest of these as in documents.py
    Column("reports", Text, nullable=False),
    Column("outcome", Text, nullable=False),
)

WORKER = Table(
    "lm_searcher_worker",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("run", Text, nullable=False),  # the run that it serves; empty: any
    Column("place", Text, nullable=False),
    Column("free", Integer, nullable=False),  # whether it takes a task at once
    Column("beat", Double, nullable=False),  # when it was last heard of
    Column("refused", Text, nullable=False),  # controllers whose trials it cannot evaluate, and why
)

BEAT_SECONDS = 5.0
"""How often a worker is heard of, at least."""

EXPIRY_SECONDS = 30.0
"""A worker that was not heard of for so long has lost its evaluation."""

NOW = cast(func.extract("epoch", func.clock_timestamp()), Double)
"""The server's time."""

WORK = "lm_searcher_work"
"""The channel that workers listen to: a run's id says that a task of the run waits, `wish_of` that
there is a wish."""


def news_channel(run: str) -> str:
    """The channel that the controller of a run listens to: the keys of tasks with news."""
    return f"lm_searcher_{run}"[:63]


def wish_of(run: str, key: int) -> str:
    """Tells the worker of a task that the controller has a wish."""
    return f"{run} {key}"


def create_tables(connection: Connection) -> None:
    """Make the tables that are missing; a role without the right to make any may use those there
    are."""
    if all(inspect(connection).has_table(name) for name in METADATA.tables):
        return
    connection.execute(text("SELECT pg_advisory_xact_lock(7368787264)"))
    for table in METADATA.tables.values():
        connection.execute(CreateTable(table, if_not_exists=True))
