"""A queue in PostgreSQL with workers for the tests: threads, or what the test does by hand."""

from __future__ import annotations

import contextlib
import itertools
import threading
import uuid
from typing import Any

from postgres import Postgres
from sqlalchemy import select

from lm_searcher.tools.executors.protocol import Ended, Event, Site
from lm_searcher.tools.executors.queue.documents import outcome_text
from lm_searcher.tools.executors.queue.executor import QueueExecutor
from lm_searcher.tools.executors.queue.link import Link
from lm_searcher.tools.executors.queue.loaded import Work
from lm_searcher.tools.executors.queue.tables import TASK
from lm_searcher.tools.executors.queue.taking import Taken, Taker
from lm_searcher.tools.executors.queue.worker import QueueWorker
from lm_searcher.tools.protocols import Evaluator, Outcome


class Queue:
    """A queue in a schema of its own, with workers that are threads of this process."""

    def __init__(self, postgres: Postgres) -> None:
        self.url, self.run = postgres.url(), uuid.uuid4().hex
        self.site = Site(self.run, "a run", self.url)
        self.lines: list[str] = []
        self._workers: list[tuple[QueueWorker, threading.Thread]] = []
        self._names = itertools.count()

    def work(self, evaluator: Evaluator, **options: Any) -> QueueWorker:
        """Start a worker; it is known once this returns."""
        made = Work("a run", evaluator)
        worker = QueueWorker(
            self.url,
            lambda connection, run: lambda: made,
            f"node {next(self._names)}",
            tell=self.lines.append,
            **options,
        )
        thread = threading.Thread(target=worker.serve)
        thread.start()
        self._workers.append((worker, thread))
        return worker

    def executor(self, workers: int = 100, **options: Any) -> QueueExecutor:
        return QueueExecutor(self.site, workers, **options)

    def await_ends(self) -> None:
        """Wait until all workers have ended."""
        for _, thread in self._workers:
            thread.join()

    def rows(self) -> list[Any]:
        """Key, state and wish of each task."""
        with contextlib.closing(Link(self.url)) as link:
            query = select(TASK.c.key, TASK.c.state, TASK.c.wish).order_by(TASK.c.key)
            return [tuple(row) for row in link.run(lambda c: c.execute(query).all())]

    def close(self) -> None:
        for worker, _ in self._workers:
            worker.end(at_once=True)
        self.await_ends()


class Hands:
    """A worker without a process: it does what the test says."""

    def __init__(self, url: str, run: str = "", place: str = "by hand") -> None:
        self.taker, self.link = Taker(uuid.uuid4().hex, run, place), Link(url)
        self.link.run(self.taker.announce)

    def take(self) -> Taken:
        taken = self.link.run(self.taker.take)
        assert taken is not None
        return taken

    def end(self, task: Taken, value: float = 1.0) -> bool:
        text = outcome_text(Outcome({"value": value}, 0.5))
        kept = self.link.run(lambda c: self.taker.end(c, task, text))
        self.link.run(lambda c: self.taker.tell_end(c, task))
        return kept


def only(events: list[Event]) -> Ended:
    (ended,) = (event for event in events if isinstance(event, Ended))
    return ended
