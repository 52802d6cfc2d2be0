"""The tables of the store. They hold what cannot be derived; documents are JSON text.

lm_searcher_run     a run: its attributes, and the lease of the process that drives it
lm_searcher_trial   a trial: its state, and its results as a document
lm_searcher_event   the run's log: decisions, ends of trials, losses, records
"""

from __future__ import annotations

import json

from sqlalchemy import Column, Double, Index, Integer, MetaData, Table, Text

METADATA = MetaData()

to_json = json.JSONEncoder(separators=(",", ":")).encode
"""A document of a table: compact, and ASCII whatever characters it has."""

RUN = Table(
    "lm_searcher_run",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("epoch", Integer, nullable=False),  # counts the processes that have driven the run
    Column("owner", Text, nullable=False),  # who drives it, as in lease.py; empty: nobody
    Column("beat", Double, nullable=False),  # when the owner was last heard of, in seconds
    Column("attributes", Text, nullable=False),
)

TRIAL = Table(
    "lm_searcher_trial",
    METADATA,
    Column("run", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("ncode", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("doc", Text, nullable=False),
)

EVENT = Table(
    "lm_searcher_event",
    METADATA,
    Column("run", Text, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("doc", Text, nullable=False),
)

RECORDED = "recorded"
"""The kind of the events that are records; a partial index finds them in a long log."""

Index(
    "lm_searcher_record",
    EVENT.c.run,
    EVENT.c.n,
    sqlite_where=EVENT.c.kind == RECORDED,
    postgresql_where=EVENT.c.kind == RECORDED,
)
