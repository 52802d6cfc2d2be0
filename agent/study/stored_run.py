"""A run as its store has it, for readers: of the present format, or of an earlier one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from lm_searcher.agent.study.events import Event
from lm_searcher.agent.study.lease import driver_of
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.optuna_format import is_optuna_run, read_optuna_run, study_names
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.run_rows import read_attributes, read_events, read_trials, run_row
from lm_searcher.agent.study.sqlite_files import sqlite_path
from lm_searcher.agent.study.storage import (
    has_table,
    open_engine,
    shown,
    store_errors,
)
from lm_searcher.agent.study.tables import RUN
from lm_searcher.spaces.errors import StoreError, unknown
from lm_searcher.spaces.history import Trial


@dataclass(frozen=True)
class StoredRun:
    """One state of a run."""

    attributes: Mapping[str, Any]
    """What is stored beside the trials, records included."""
    objectives: ObjectiveSet
    trials: Sequence[Trial]
    driven: bool
    """Whether a process drives it."""


def stored_run(files: RunFiles) -> StoredRun:
    """The run as its store has it now, read in one transaction. Raises StoreError if there is
    none."""
    with (
        open_engine(files.url, create=False) as engine,
        store_errors(files.url),
        engine.begin() as connection,
    ):
        row = run_row(connection, files.name) if _has_runs(connection) else None
        if row is not None:
            attributes = read_attributes(connection, row)
            objectives = ObjectiveSet.stored(attributes["objective"])
            trials, _ = read_trials(connection, row.id, objectives)
            driven = driver_of(row.owner, row.age) is not None
            return StoredRun(attributes, objectives, trials, driven)
        names = _names(connection)
        earlier = is_optuna_run(connection, files.name)
    if files.name not in names:
        raise StoreError(f"store '{shown(files.url)}': {unknown('run', files.name, names)}")
    if not earlier:
        raise StoreError(
            f"store '{shown(files.url)}': study '{files.name}' is no run that has begun"
        )
    run = read_optuna_run(files.url, files.name)
    return StoredRun(run.attributes, run.objectives, run.trials, driven=False)


def studies(url: str) -> list[str]:
    """The names of the runs in a store, and of other programs' Optuna studies. Raises
    StoreError."""
    with (
        open_engine(url, create=False) as engine,
        store_errors(url),
        engine.connect() as connection,
    ):
        return sorted(_names(connection))


def has_run(url: str, name: str) -> bool:
    """Whether the store has a run of that name which has begun. Raises StoreError.

    A process may be killed at any moment of making a store: a file without tables holds none.
    """
    path = sqlite_path(url)
    if path is not None and not path.is_file():
        return False
    with (
        open_engine(url, create=False, empty=True) as engine,
        store_errors(url),
        engine.connect() as connection,
    ):
        known = _has_runs(connection) and run_row(connection, name) is not None
        return known or is_optuna_run(connection, name)


def _has_runs(connection: Connection) -> bool:
    return has_table(connection, RUN.name)


def _names(connection: Connection) -> set[str]:
    names = set(study_names(connection))
    if _has_runs(connection):
        names |= set(connection.execute(select(RUN.c.name)).scalars())
    return names


def stored_log(files: RunFiles) -> list[Event]:
    """The log of a run, the oldest entry first. Raises StoreError if there is none."""
    with (
        open_engine(files.url, create=False) as engine,
        store_errors(files.url),
        engine.connect() as connection,
    ):
        row = run_row(connection, files.name) if _has_runs(connection) else None
        if row is None:
            raise StoreError(
                f"run '{files.name}' in store '{shown(files.url)}' has no log: an earlier version "
                f"stored it; lm-searcher migrate {files.name} begins one"
            )
        return read_events(connection, row.id)
