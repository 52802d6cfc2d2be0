"""Runs of formats 1 and 2, which were Optuna studies; they are read, and never written to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text
from sqlalchemy.pool import QueuePool

from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.sqlite_files import connect_reader, sqlite_path
from lm_searcher.agent.study.storage import (
    OPTUNA,
    database_url,
    has_table,
    shown,
    store_errors,
)
from lm_searcher.agent.study.trial_documents import Draft
from lm_searcher.spaces.errors import StoreError, one_line
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.usage import Usage

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

RUNG = "completed_rung_"
"""Begins the names of what successive halving keeps with a trial."""


@dataclass(frozen=True)
class OptunaRun:
    """A run as an Optuna study has it."""

    attributes: Mapping[str, Any]
    objectives: ObjectiveSet
    trials: Sequence[Trial]
    drafts: Sequence[Draft]


def study_names(connection: Connection) -> list[str]:
    """The Optuna studies of a database, those of other programs included."""
    if not has_table(connection, OPTUNA):
        return []
    return list(connection.execute(text("SELECT study_name FROM studies")).scalars())


def is_optuna_run(connection: Connection, name: str) -> bool:
    """Whether an Optuna study of that name is a run that has begun."""
    query = (  # of the attributes, "id" was stored last
        "SELECT count(*) FROM studies JOIN study_user_attributes USING (study_id) "
        "WHERE study_name = :name AND key = 'id'"
    )
    return _counts(connection, query, name)


def is_foreign(connection: Connection, name: str) -> bool:
    """Whether an Optuna study of that name has trials, and is none of our runs."""
    query = "SELECT count(*) FROM studies JOIN trials USING (study_id) WHERE study_name = :name"
    return _counts(connection, query, name) and not is_optuna_run(connection, name)


def _counts(connection: Connection, query: str, name: str) -> bool:
    if not has_table(connection, OPTUNA):
        return False
    return bool(connection.execute(text(query), {"name": name}).scalar())


def read_optuna_run(url: str, name: str) -> OptunaRun:
    """The run of that name, read through Optuna. Raises StoreError."""
    with _reading(url) as storage, store_errors(url):
        study = storage.get_study_id_from_name(name)
        attributes = storage.get_study_user_attrs(study)
        frozen = storage.get_all_trials(study, deepcopy=False)
    objectives = ObjectiveSet.stored(attributes["objective"])
    trials = [_trial(each, objectives) for each in frozen]
    return OptunaRun(attributes, objectives, trials, list(map(_draft, frozen)))


def _trial(frozen: FrozenTrial, objectives: ObjectiveSet) -> Trial:
    attributes: Mapping[str, Any] = frozen.user_attrs
    state = TrialState(frozen.state.name)
    values = () if state is TrialState.FAIL else tuple(frozen.values or ())
    metrics = attributes.get("metrics", {})
    return Trial(
        number=frozen.number,
        ncode=attributes.get("ncode", ""),
        state=state,
        value=values[0] if values else None,
        values=values,
        violation=objectives.violation(metrics) if values else 0.0,
        metrics=metrics,
        seed=attributes.get("seed", 0),
        fidelity=attributes.get("fidelity", 1.0),
        reason=attributes.get("reason"),
        seconds=attributes.get("seconds"),
        curve=tuple(frozen.intermediate_values[s] for s in sorted(frozen.intermediate_values)),
        usage=Usage.of(attributes["account"]) if "account" in attributes else None,
        began=_time(frozen.datetime_start),
        ended=_time(frozen.datetime_complete),
    )


def _draft(frozen: FrozenTrial) -> Draft:
    marks = frozen.system_attrs.items() if frozen.state.is_finished() else ()
    return Draft(
        ranker=frozen.user_attrs.get("ranker", ""),
        account=frozen.user_attrs.get("account", {}),
        steps=tuple(sorted(frozen.intermediate_values)),
        marks={name: (0, value) for name, value in marks if name.startswith(RUNG)},
    )


def _time(moment: datetime | None) -> float | None:
    """Optuna's local time in seconds since 1970."""
    return None if moment is None else round(moment.timestamp(), 3)


@contextlib.contextmanager
def _reading(url: str) -> Iterator[RDBStorage]:
    """Optuna's storage, which finds its tables and so writes nothing."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place, options = database_url(url).render_as_string(hide_password=False), dict[str, Any]()
    if (path := sqlite_path(url)) is not None:
        place, options = "sqlite://", {"creator": partial(connect_reader, path)}
        options["poolclass"] = QueuePool
    try:
        with store_errors(url):
            storage = optuna.storages.RDBStorage(place, engine_kwargs=options)
    except (RuntimeError, optuna.exceptions.OptunaError) as error:  # a schema of another version
        raise StoreError(f"store '{shown(url)}': {one_line(error, 300)}") from error
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()
