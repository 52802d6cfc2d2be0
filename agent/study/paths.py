"""Where a run keeps its files, and that one process at a time drives it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.sqlite import SqliteSaver

from lm_searcher.agent.study.trial_store import BUSY_SECONDS, MEMORY, sqlite_path, store_errors
from lm_searcher.spaces.errors import StoreError
from lm_searcher.tools.files import file_lock


@dataclass(frozen=True)
class RunFiles:
    """The places of one run. Everything lies beside a SQLite store, or in the run's folder."""

    name: str
    url: str
    folder: Path

    @classmethod
    def of(cls, name: str, folder: Path, url: str | None) -> RunFiles:
        """By default the store is SQLite in ``folder/name``."""
        home = folder / name
        if url is None:
            place = str(home / "trials.db").replace("%", "%25").replace("?", "%3F")
            return cls(name, f"sqlite:///{place}", home)
        path = sqlite_path(url)
        return cls(name, url, path.parent if path else home)

    def _beside(self, suffix: str) -> Path:
        path = sqlite_path(self.url)
        return self.folder / (f"{path.name}.{self.name}{suffix}" if path else self.name + suffix)

    @property
    def checkpoints(self) -> Path:
        """The SQLite file of the graph's checkpoints."""
        return self._beside(".checkpoints")

    @property
    def lock(self) -> Path:
        """Held by the process that drives the run."""
        return self._beside(".lock")

    @property
    def requests(self) -> Path:
        """The folder where requests by hand come in."""
        return self._beside(".requests")

    @property
    def log(self) -> Path:
        """What evaluations print, and the tracebacks of those that raise."""
        return self._beside(".log")

    def remove_empty(self) -> None:
        """Leave no trace of a run that did not begin."""
        with contextlib.suppress(OSError):
            if self.log.stat().st_size == 0:
                self.log.unlink()
            self.folder.rmdir()
            if self.folder.name == self.name:  # in a folder of runs, made for this one perhaps
                self.folder.parent.rmdir()

    @property
    def kept(self) -> bool:
        """Whether anything is written at all."""
        return self.url != MEMORY

    @property
    def driven(self) -> bool:
        """Whether some process drives the run now."""
        if not self.kept or not self.lock.exists():
            return False
        try:
            with file_lock(self.lock, timeout=0):
                return False
        except TimeoutError:
            return True


@contextlib.contextmanager
def run_lock(files: RunFiles) -> Iterator[None]:
    """Drive the run alone. The system lets go of the lock however the process ends.

    Raises StoreError if another process holds it.
    """
    if not files.kept:
        yield
        return
    try:
        files.folder.mkdir(parents=True, exist_ok=True)
        lock = file_lock(files.lock, timeout=1)  # `driven` holds the lock for an instant
    except TimeoutError:
        raise StoreError(
            f"run '{files.name}' is locked: another process drives it (lock '{files.lock}'); "
            "wait for it, end it, or choose another --name"
        ) from None
    except OSError as error:
        raise StoreError(f"run '{files.name}': cannot write '{files.lock}': {error}") from None
    with lock:
        yield


class LatestSaver(SqliteSaver):
    """Keeps each thread's newest checkpoint alone: a run's files grow by its trials only."""

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """See BaseCheckpointSaver."""
        saved = super().put(config, checkpoint, metadata, new_versions)
        place: dict[str, Any] = saved["configurable"]
        keep = (place["thread_id"], place["checkpoint_ns"], place["checkpoint_id"])
        with self.cursor() as cursor:
            for table in ("checkpoints", "writes"):
                cursor.execute(
                    f"DELETE FROM {table} "
                    "WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id < ?",
                    keep,
                )
        return saved


@contextlib.contextmanager
def checkpointer(files: RunFiles) -> Iterator[SqliteSaver | None]:
    """The run's saver; None for a run that keeps nothing.

    The file syncs less than the store does: what a power cut takes from it is done again from
    the store, trial by trial, without evaluating anything twice.
    """
    if not files.kept:
        yield None
        return
    with store_errors(f"sqlite:///{files.checkpoints}"):
        connection = sqlite3.connect(
            files.checkpoints, check_same_thread=False, timeout=BUSY_SECONDS
        )
        with contextlib.closing(connection):
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            yield LatestSaver(connection)
