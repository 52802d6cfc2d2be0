"""The queue: evaluations in worker processes that take them from PostgreSQL."""

from __future__ import annotations

import contextlib
import itertools
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from executor_contract import ExecutorContract, Start
from postgres import Postgres

from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.executors.protocol import Executor, Site
from lm_searcher.tools.executors.queue.executor import QueueExecutor
from lm_searcher.tools.executors.queue.loaded import Work
from lm_searcher.tools.executors.queue.worker import QueueWorker
from lm_searcher.tools.protocols import Evaluator

pytestmark = pytest.mark.slow


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

    def close(self) -> None:
        for worker, _ in self._workers:
            worker.end(at_once=True)
        for _, thread in self._workers:
            thread.join()


@pytest.fixture
def queue(postgres: Postgres) -> Iterator[Queue]:
    with contextlib.closing(Queue(postgres)) as made:
        yield made


@pytest.fixture
def start(queue: Queue) -> Iterator[Start]:
    made: list[Executor] = []

    def begin(function: Callable[..., Any], workers: int = 1, again: bool = False) -> Executor:
        for _ in range(0 if again else workers):
            queue.work(FunctionEvaluator(function))
        made.append(queue.executor())
        return made[-1]

    yield begin
    for executor in made:
        executor.close()


class TestContract(ExecutorContract):
    at_that_report = False
    outlives = True
