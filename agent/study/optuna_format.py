"""Runs of formats 1 and 2, which were Optuna studies; they are read, and never written to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import Connection, text

from lm_searcher.agent.study.storage import OPTUNA, has_table, shown, sqlite_path, store_errors
from lm_searcher.agent.study.trial_documents import Draft
from lm_searcher.spaces.errors import StoreError, one_line
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.usage import Usage

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class OptunaRun:
    """A run as an Optuna study has it."""

    attributes: Mapping[str, Any]
    trials: list[tuple[Trial, Draft]]

    @property
    def begun(self) -> bool:
        """Whether it is one of our runs, and was not killed while it was made."""
        return "id" in self.attributes  # which was stored last


def study_names(connection: Connection) -> list[str]:
    """The Optuna studies of a database, those of other programs included."""
    if not has_table(connection, OPTUNA):
        return []
    return list(connection.execute(text("SELECT study_name FROM studies")).scalars())


def is_optuna_run(connection: Connection, name: str) -> bool:
    """Whether an Optuna study of that name is a run that has begun."""
    if not has_table(connection, OPTUNA):
        return False
    query = text(
        "SELECT count(*) FROM studies JOIN study_user_attributes USING (study_id) "
        "WHERE study_name = :name AND key = 'id'"
    )
    return bool(connection.execute(query, {"name": name}).scalar())


def read_optuna_run(url: str, name: str) -> OptunaRun:
    """The run of that name, read through Optuna. Raises StoreError."""
    with _reading(url) as storage, store_errors(url):
        study = storage.get_study_id_from_name(name)
        attributes = storage.get_study_user_attrs(study)
        frozen = storage.get_all_trials(study, deepcopy=False)
    return OptunaRun(attributes, [as_trial(trial) for trial in frozen])


def as_trial(frozen: FrozenTrial) -> tuple[Trial, Draft]:
    """One of our trials from one of Optuna's; without its violation."""
    attributes: Mapping[str, Any] = frozen.user_attrs
    state, steps = TrialState(frozen.state.name), tuple(sorted(frozen.intermediate_values))
    values = () if state is TrialState.FAIL else tuple(frozen.values or ())
    account = attributes.get("account", {})
    trial = Trial(
        number=frozen.number,
        ncode=attributes.get("ncode", ""),
        state=state,
        value=values[0] if values else None,
        values=values,
        metrics=attributes.get("metrics", {}),
        seed=attributes.get("seed", 0),
        fidelity=attributes.get("fidelity", 1.0),
        reason=attributes.get("reason"),
        seconds=attributes.get("seconds"),
        curve=tuple(frozen.intermediate_values[step] for step in steps),
        usage=Usage.of(account) if account else None,
    )
    started, ended = frozen.datetime_start, frozen.datetime_complete
    draft = Draft(
        ranker=attributes.get("ranker", ""),
        began=started and started.timestamp(),
        ended=ended and ended.timestamp(),
        account=account,
        steps=steps,
    )
    return trial, draft


@contextlib.contextmanager
def _reading(url: str) -> Iterator[RDBStorage]:
    """Optuna's storage, which finds its tables and so writes nothing."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = sqlite_path(url)
    if path is not None:  # quoted for SQLite, and once more for SQLAlchemy
        place = f"sqlite:///file:{quote(quote(str(path)))}?mode=ro&uri=true"
    else:
        place = url
    try:
        with store_errors(url):
            storage = optuna.storages.RDBStorage(place)
    except RuntimeError as error:  # Optuna's word for a schema of another version
        raise StoreError(f"store '{shown(url)}': {one_line(error)}") from error
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()
