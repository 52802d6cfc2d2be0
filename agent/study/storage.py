"""Databases: Optuna storages by URL, and their errors as one line."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import optuna
import sqlalchemy.engine
import sqlalchemy.exc
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.study import Study, StudyDirection

from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.errors import StoreError, one_line

MEMORY = "memory"
"""The store URL of a run that writes nothing to disk."""

BUSY_SECONDS = 30
"""How long a write waits for another process's write to a SQLite store."""


def sqlite_path(url: str) -> Path | None:
    """The file behind a SQLite URL; None for any other store."""
    path = url.removeprefix("sqlite:///")
    return Path(unquote(path)) if path != url else None


def shown(url: str) -> str:
    """A store's URL without its password, for messages and for the stored settings."""
    try:
        parsed = sqlalchemy.engine.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        return url
    return parsed.render_as_string(hide_password=True) if parsed.password else url


@contextlib.contextmanager
def store_errors(url: str) -> Iterator[None]:
    """Turn the errors of a database into a StoreError of one line."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        cause = error.__cause__ or error
        text = " ".join(str(getattr(cause, "orig", None) or cause).split())
        raise StoreError(f"store '{shown(url)}': {_advice(text)}") from error
    except sqlite3.Error as error:
        raise StoreError(f"store '{shown(url)}': {_advice(str(error))}") from error
    except ImportError as error:
        raise StoreError(
            f"store '{shown(url)}' wants a database driver that is not installed "
            "(PostgreSQL: pip install 'lm-searcher[postgres]')"
        ) from error
    except RuntimeError as error:  # Optuna's word for a schema of another version
        raise StoreError(f"store '{shown(url)}': {one_line(error)}") from error


def _advice(text: str) -> str:
    if "locked" in text:
        return f"the database is locked by another process; end it, or wait ({text})"
    if "readonly database" in text:
        return "it holds no runs yet"
    if "not a database" in text or "malformed" in text:
        return f"this file is no SQLite database ({text})"
    return text[:300]


@contextlib.contextmanager
def open_storage(url: str, create: bool = True) -> Iterator[BaseStorage]:
    """Optuna's storage at a URL, `memory` included; closed at the end.

    Without `create` it is for reading: a SQLite file must be there and is not written to.
    Raises StoreError.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if url == MEMORY:
        yield InMemoryStorage()
        return
    path, arguments = sqlite_path(url), dict[str, Any]()
    with store_errors(url):
        if path is not None:
            if not create and not path.is_file():
                raise StoreError(f"store '{shown(url)}': no such file")
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")  # readers never block the run
            arguments = {"connect_args": {"timeout": BUSY_SECONDS}}
        place = url
        if path is not None and not create:  # quoted for SQLite, and once more for SQLAlchemy
            place = f"sqlite:///file:{quote(quote(str(path)))}?mode=ro&uri=true"
        backend = RDBStorage(place, engine_kwargs=arguments)
    try:
        yield optuna.storages.get_storage(backend)
    finally:
        backend.remove_session()
        backend.engine.dispose()


def studies(url: str) -> list[str]:
    """The names of the runs in a store. Raises StoreError."""
    with open_storage(url, create=False) as storage, store_errors(url):
        return sorted(s.study_name for s in storage.get_all_studies())


def has_run(url: str, name: str) -> bool:
    """Whether the store has a run of that name which has begun. Raises StoreError.

    A process may be killed at any moment of making a store: a file without tables holds none.
    """
    path = sqlite_path(url)
    if path is not None and not _has_study(path, url, name):
        return False
    with open_storage(url, create=False) as storage, store_errors(url):
        known = {s.study_name: s.user_attrs for s in storage.get_all_studies()}
    return "id" in known.get(name, {})


def _has_study(path: Path, url: str, name: str) -> bool:
    if not path.is_file():
        return False
    place = f"file:{quote(str(path))}?mode=ro"
    query = "SELECT count(*) FROM studies WHERE study_name = ?"
    with (
        store_errors(url),
        contextlib.closing(sqlite3.connect(place, BUSY_SECONDS, uri=True)) as connection,
    ):
        try:
            return bool(connection.execute(query, (name,)).fetchone()[0])
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return False
            raise


def open_study(
    storage: BaseStorage, name: str, objectives: ObjectiveSet, pruner: BasePruner | None
) -> Study:
    """The study of a run, made if there is none of that name."""
    directions = [
        StudyDirection.MAXIMIZE if goal.direction == "max" else StudyDirection.MINIMIZE
        for goal in objectives.goals
    ]
    with contextlib.suppress(optuna.exceptions.DuplicatedStudyError):
        storage.create_new_study(directions, name)
    return optuna.load_study(
        study_name=name,
        storage=storage,
        sampler=optuna.samplers.RandomSampler(),
        pruner=pruner or optuna.pruners.NopPruner(),
    )
