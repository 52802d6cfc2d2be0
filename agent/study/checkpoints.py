"""The graph's checkpoints: the newest of each run, in a SQLite file beside its store."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.sqlite import SqliteSaver

from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.sqlite_files import BUSY_SECONDS
from lm_searcher.agent.study.storage import store_errors


class LatestSaver(SqliteSaver):
    """Keeps the newest checkpoint of each thread only: a run's files grow by its trials alone."""

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
