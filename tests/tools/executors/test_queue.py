"""The queue: evaluations in worker processes that take them from PostgreSQL."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from executor_contract import ExecutorContract, Start, evaluation, events_until, is_ended
from postgres import Postgres
from queues import Queue, only

from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.executors.protocol import Ended, Event, Executor, Site
from lm_searcher.tools.executors.queue.executor import QueueExecutor
from lm_searcher.tools.executors.queue.loaded import MOST, Work
from lm_searcher.tools.executors.queue.worker import QueueWorker

pytestmark = pytest.mark.slow


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


# -- workers --------------------------------------------------------------------------------------


def test_a_worker_that_ends_gives_its_trial_back_or_finishes_it(
    queue: Queue, start: Start, tmp_path: Path
) -> None:
    executor = start(ExecutorContract.waiting_for(tmp_path / "go"), workers=0)
    given = queue.work(FunctionEvaluator(ExecutorContract.waiting_for(tmp_path / "go")))
    executor.submit(evaluation(1))
    while not list(tmp_path.glob("began-*")):
        executor.poll(0.1)
    given.end()
    lost = only(events_until(executor, is_ended))
    assert lost.outcome is None and "was ended" in lost.lost
    finishing = queue.work(
        FunctionEvaluator(ExecutorContract.waiting_for(tmp_path / "go")), grace=3600.0
    )
    executor.submit(evaluation(1), attempt=2)
    while len(list(tmp_path.glob("began-*"))) < 2:
        executor.poll(0.1)
    finishing.end()
    (tmp_path / "go").touch()
    outcome = only(events_until(executor, is_ended)).outcome
    assert outcome is not None and outcome.metrics == {"value": 1.0}
    queue.await_ends()
    with contextlib.closing(queue.executor()) as after:
        assert after.room() == 0


def test_what_a_worker_cannot_evaluate_is_left_to_others(queue: Queue, start: Start) -> None:
    executor = start(lambda config: 1.0, workers=0)
    queue.work(FunctionEvaluator("no_such_module:f"))
    executor.submit(evaluation(1))
    while not any("no_such_module" in note for note in executor.notes):
        executor.poll(0.1)
    assert executor.room() == 0
    queue.work(FunctionEvaluator(lambda config: 2.0))
    outcome = only(events_until(executor, is_ended)).outcome
    assert outcome is not None and outcome.metrics == {"value": 2.0}


def test_the_worker_of_one_run_says_why_it_cannot_evaluate(queue: Queue, start: Start) -> None:
    executor = start(lambda config: 1.0, workers=0)
    executor.submit(evaluation(1))
    executor.poll(0.0)
    broken = Work("a run", FunctionEvaluator("no_such_module:f"))
    worker = QueueWorker(queue.url, lambda connection, run: lambda: broken, "here", run=queue.run)
    with pytest.raises(EvaluatorError, match="no_such_module"):
        worker.serve()


def test_an_idle_worker_ends(queue: Queue, start: Start) -> None:
    executor = start(lambda config: 1.0, workers=0)
    queue.work(FunctionEvaluator(lambda config: 1.0), idle=0.2)
    executor.submit(evaluation(1))
    assert only(events_until(executor, is_ended)).outcome is not None
    queue.await_ends()


def test_a_worker_keeps_few_evaluators_and_serves_any_run(queue: Queue) -> None:
    worker = queue.work(FunctionEvaluator(lambda config: 1.0))
    for run in ("a", "b", "c", "d", "a"):
        with contextlib.closing(QueueExecutor(Site(run, run, queue.url), 100)) as executor:
            executor.submit(evaluation(1))
            assert only(events_until(executor, is_ended)).outcome is not None
        assert len(worker._loaded._executors) <= MOST


def test_a_restart_of_the_server_loses_nothing(
    queue: Queue, start: Start, postgres: Postgres, tmp_path: Path
) -> None:
    executor = start(ExecutorContract.waiting_for(tmp_path / "go"), workers=2)
    executor.submit(evaluation(1))
    executor.submit(evaluation(2))
    while len(list(tmp_path.glob("began-*"))) < 2:
        executor.poll(0.1)
    postgres.stop(signal.SIGINT)
    (tmp_path / "go").touch()
    postgres.start()
    found: list[Event] = []
    while sum(map(is_ended, found)) < 2:
        found += executor.poll(10.0)
    outcomes = [event.outcome for event in found if isinstance(event, Ended)]
    assert [o and o.metrics for o in outcomes] == [{"value": 1.0}] * 2
    assert len(list(tmp_path.glob("began-*"))) == 2
