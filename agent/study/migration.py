"""Taking over a run of an earlier format into the store's own tables."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

from sqlalchemy import Connection, insert, select

from lm_searcher.agent.study.events import Event, Migrated, Recorded, event_rows
from lm_searcher.agent.study.optuna_format import OptunaRun, is_optuna_run, read_optuna_run
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.records import FORMAT, is_record
from lm_searcher.agent.study.run_records import RunRecords
from lm_searcher.agent.study.run_rows import run_row
from lm_searcher.agent.study.storage import one_at_a_time, open_engine, store_errors
from lm_searcher.agent.study.tables import EVENT, RUN, TRIAL, to_json
from lm_searcher.agent.study.trial_documents import to_row
from lm_searcher.spaces.errors import StoreError
from lm_searcher.tools.files import file_lock


def migrate_run(files: RunFiles) -> Migrated | None:
    """Take over a run of an earlier format in one transaction; None if there is none.

    Raises StoreError for a run that is damaged, or that an earlier version drives now.
    """
    with (
        open_engine(files.url) as engine,
        store_errors(files.url),
        engine.begin() as connection,
    ):
        one_at_a_time(connection)
        if run_row(connection, files.name) is not None:
            return None
        return migrate(connection, files)


def migrate(connection: Connection, files: RunFiles) -> Migrated | None:
    """As `migrate_run`, within the transaction of `connection`. Optuna's tables are only read."""
    if not is_optuna_run(connection, files.name):
        return None
    _check_not_driven(files)
    run = read_optuna_run(files.url, files.name)
    RunRecords.of(run.attributes)  # a damaged record is found before anything is written
    run_id = _free_id(connection, run)
    own = {key: value for key, value in run.attributes.items() if not is_record(key)}
    columns = {"id": run_id, "name": files.name, "epoch": 0, "owner": "", "beat": 0.0}
    attributes = to_json(own | {"id": run_id, "format": FORMAT})
    connection.execute(insert(RUN).values(columns | {"attributes": attributes}))
    rows = [
        to_row(run_id, trial, draft, run.objectives)
        for trial, draft in zip(run.trials, run.drafts, strict=True)
    ]
    if rows:
        connection.execute(insert(TRIAL), rows)
    migrated = Migrated(trials=len(rows), format=run.attributes.get("format", 1))
    connection.execute(insert(EVENT), event_rows(run_id, 0, [*_records(run), migrated]))
    return migrated


def _records(run: OptunaRun) -> list[Event]:
    keys = filter(is_record, sorted(run.attributes))
    return [Recorded(key=key, record=run.attributes[key]) for key in keys]


def _free_id(connection: Connection, run: OptunaRun) -> str:
    """The run's id; another one if the study was copied within the database."""
    found: Any = run.attributes["id"]
    taken = connection.execute(select(RUN.c.name).where(RUN.c.id == found)).first()
    return uuid.uuid4().hex if taken else str(found)


def _check_not_driven(files: RunFiles) -> None:
    """Earlier versions held a lock file while they drove a run."""
    if not files.lock.exists():
        return
    try:
        with contextlib.suppress(PermissionError), file_lock(files.lock, timeout=0):
            pass
    except TimeoutError:
        raise StoreError(
            f"run '{files.name}' is locked: another process of an earlier version drives it (lock "
            f"'{files.lock}'); wait for it, or end it"
        ) from None
