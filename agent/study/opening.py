"""Opening a run's store for the process that drives it: a new run, or one that goes on."""

from __future__ import annotations

import contextlib
import json
import logging
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, insert

from lm_searcher.agent.study.identity import check_same, describe_space, versions
from lm_searcher.agent.study.lease import Clock, Lease, beating, now, take
from lm_searcher.agent.study.migration import migrate
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.optuna_format import is_foreign
from lm_searcher.agent.study.owner import Owner
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.records import CONFIG, FORMAT, Identity
from lm_searcher.agent.study.run_rows import run_row
from lm_searcher.agent.study.run_writer import RunWriter
from lm_searcher.agent.study.storage import MEMORY, one_at_a_time, open_engine, shown, store_errors
from lm_searcher.agent.study.tables import RUN, to_json
from lm_searcher.agent.study.trial_store import TrialStore
from lm_searcher.spaces.errors import StoreError
from lm_searcher.spaces.space import SearchSpace

if TYPE_CHECKING:
    from optuna.pruners import BasePruner

_log = logging.getLogger("lm_searcher.store")


@contextlib.contextmanager
def opened(
    files: RunFiles,
    space: SearchSpace,
    objectives: ObjectiveSet,
    identity: Identity,
    pruner: BasePruner | None,
    config: Mapping[str, Any],
    run_id: str | None = None,
    owner: Owner | None = None,
    clock: Clock | None = None,
) -> Iterator[TrialStore]:
    """The store of a run, which this process alone drives meanwhile; its trials are loaded.

    `run_id` becomes the id of a new run. Trials that an earlier process left running wait.
    Raises StoreError if another process drives the run, or if it is of something else.
    """
    owner = owner or Owner.of_this_process()
    with open_engine(files.url) as engine:
        with store_errors(files.url), engine.begin() as connection:
            one_at_a_time(connection)
            lease = _lease(connection, files, identity, run_id, owner, clock)
        writer = RunWriter(engine, files.url, lease)
        with _held(engine, lease, files), contextlib.closing(writer):
            store = TrialStore(writer, space, objectives, pruner)
            store.load()
            with store.tick():
                store.put_back()
                if store.attributes.get(CONFIG) != dict(config):
                    store.record(CONFIG, dict(config))
                store.set_attribute("versions", versions())
            yield store


@contextlib.contextmanager
def memory_store(
    space: SearchSpace, objectives: ObjectiveSet, pruner: BasePruner | None = None
) -> Iterator[TrialStore]:
    """The store of a new run that writes nothing to disk."""
    identity = Identity(
        space=describe_space(space), objective=objectives.to_json(), evaluator={}, seed=0
    )
    files = RunFiles("memory", MEMORY, Path())
    with opened(files, space, objectives, identity, pruner, {}) as store:
        yield store


def _lease(
    connection: Connection,
    files: RunFiles,
    identity: Identity,
    run_id: str | None,
    owner: Owner,
    clock: Clock | None,
) -> Lease:
    """The lease of the run of these files, which is begun if there is none."""
    if (row := run_row(connection, files.name, clock)) is None:
        migrate(connection, files)
        row = run_row(connection, files.name, clock)
    if row is not None:
        lease = take(connection, row, files.name, owner, clock)
        check_same(files, json.loads(row.attributes), identity)
        return lease
    if is_foreign(connection, files.name):
        raise StoreError(
            f"store '{shown(files.url)}': study '{files.name}' holds trials of another program; "
            "choose another --name"
        )
    run_id = run_id or uuid.uuid4().hex
    attributes = identity.document | {"format": FORMAT, "id": run_id}
    connection.execute(
        insert(RUN).values(
            id=run_id,
            name=files.name,
            epoch=1,
            owner=owner.text,
            beat=now(connection, clock),
            attributes=to_json(attributes),
        )
    )
    return Lease(run_id, files.name, 1, owner, clock)


@contextlib.contextmanager
def _held(engine: Engine, lease: Lease, files: RunFiles) -> Iterator[None]:
    """Keep the lease meanwhile, and give it back in the end."""
    try:
        with beating(engine, lease) if files.kept else contextlib.nullcontext():
            yield
    finally:
        try:
            with store_errors(files.url), engine.begin() as connection:
                lease.release(connection)
        except StoreError as error:  # what ended the run matters more; the lease expires
            _log.warning("%s", error)
