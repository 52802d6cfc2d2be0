"""[executor] kind = "queue"."""

from __future__ import annotations

import importlib.util
from typing import Literal, Self

from pydantic import model_validator

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.settings import Count, Positive
from lm_searcher.tools.databases import shown
from lm_searcher.tools.executors.protocol import Executor, Site
from lm_searcher.tools.executors.settings import ExecutorSettings
from lm_searcher.tools.protocols import Evaluator

EVERYWHERE = 100_000
"""More workers than there are."""


class QueueSettings(ExecutorSettings):
    """[executor] kind = "queue": trials wait in the store's PostgreSQL for `lm-searcher worker`
    processes."""

    kind: Literal["queue"] = "queue"
    workers: Count = EVERYWHERE
    """Evaluations at the same time, at most; default: one for each worker that is there."""
    memory_gb: Positive | None = None
    """Limit of a trial's memory; default: nine tenths of its machine's memory, no limit on a
    GPU."""

    @model_validator(mode="after")
    def _has_no_devices(self) -> Self:
        if self.devices:
            raise ValueError("devices: each worker has its own; see lm-searcher worker --gpu")
        return self

    @property
    def picks(self) -> int | None:
        """See ExecutorSettings."""
        return self.batch or (None if self.workers == EVERYWHERE else self.workers)

    def make(self, evaluator: Evaluator, site: Site) -> Executor:
        """See ExecutorSettings. Raises ConfigError for a run whose trials no worker could take."""
        if importlib.util.find_spec("psycopg") is None:
            raise ConfigError("[executor] kind = 'queue': pip install 'lm-searcher[postgres]'")
        if not site.url.startswith("postgresql"):
            raise ConfigError(
                "[executor] kind = 'queue' keeps trials in the store's PostgreSQL; [store] url is "
                f"'{shown(site.url)}'; accepted: postgresql://USER@HOST/DATABASE"
            )
        if not site.described:
            raise ConfigError(
                "[executor] kind = 'queue': its workers make the evaluator from a run file, and "
                "this search was made in Python; use lm-searcher run or Search.from_file"
            )
        from lm_searcher.tools.executors.queue.executor import QueueExecutor

        return QueueExecutor(site, self.workers)
