"""Whether a stored run has changed, without reading it."""

from __future__ import annotations

from collections.abc import Hashable

from sqlalchemy import select

from lm_searcher.agent.study.lease import driver_of, lease_columns
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.sqlite_files import sqlite_path
from lm_searcher.agent.study.storage import has_table, open_engine, store_errors
from lm_searcher.agent.study.tables import RUN


def store_state(files: RunFiles) -> Hashable:
    """A value that differs once the run has changed. Raises StoreError.

    Every tick writes the beat of the run's lease, and a driver that is heard of no more shows.
    A run of formats 1 and 2 changes by being migrated, or with its file.
    """
    with (
        open_engine(files.url, create=False) as engine,
        store_errors(files.url),
        engine.connect() as connection,
    ):
        if has_table(connection, RUN.name):
            columns = [RUN.c.id, RUN.c.epoch, RUN.c.beat, *lease_columns(connection)]
            row = connection.execute(select(*columns).where(RUN.c.name == files.name)).first()
            if row is not None:
                return row.id, row.epoch, row.beat, driver_of(row.owner, row.age) is not None
    path = sqlite_path(files.url)
    return None if path is None else path.stat().st_mtime_ns
