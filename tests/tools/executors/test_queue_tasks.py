"""The tasks of a queue: who gets them, and who loses them. No evaluation runs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from executor_contract import evaluation, events_until, is_ended
from postgres import Postgres
from queues import Hands, Queue, only
from sqlalchemy import delete, update

from lm_searcher.tools.executors.protocol import Began, Ended, Event, Reported, Site
from lm_searcher.tools.executors.queue.documents import report_text
from lm_searcher.tools.executors.queue.executor import QueueExecutor
from lm_searcher.tools.executors.queue.tables import END, TASK, WORKER

pytestmark = pytest.mark.slow


@pytest.fixture
def queue(postgres: Postgres) -> Iterator[Queue]:
    with contextlib.closing(Queue(postgres)) as made:
        yield made


@pytest.fixture
def by_hand(queue: Queue) -> Iterator[Callable[..., Hands]]:
    made: list[Hands] = []

    def make(**options: Any) -> Hands:
        made.append(Hands(queue.url, **options))
        return made[-1]

    yield make
    for hands in made:
        hands.link.close()


@pytest.fixture
def controller(queue: Queue) -> Iterator[Callable[..., QueueExecutor]]:
    """Makes executors of the queue's run. They are closed as if killed."""
    made: list[QueueExecutor] = []

    def make(**options: Any) -> QueueExecutor:
        made.append(queue.executor(**options))
        return made[-1]

    yield make
    for executor in made:
        executor.close(keep=True)


Controller = Callable[..., QueueExecutor]
ByHand = Callable[..., Hands]


# -- who gets a task ------------------------------------------------------------------------------


def test_no_two_workers_take_the_same_task(queue: Queue, controller: Controller) -> None:
    executor = controller()
    for key in range(60):
        executor.submit(evaluation(key))
    executor.poll(0.0)
    taken: list[int] = []

    def take_all() -> None:
        hands = Hands(queue.url)
        while (task := hands.link.run(hands.taker.take)) is not None:
            taken.append(task.evaluation.key)
            hands.end(task)
        hands.link.close()

    threads = [threading.Thread(target=take_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(60))
    found: list[Event] = []
    while sum(map(is_ended, found)) < 60:
        found += executor.poll(10.0)
    assert sorted(event.key for event in found if isinstance(event, Ended)) == list(range(60))


def test_a_repeated_take_finds_the_task_that_was_taken(
    controller: Controller, by_hand: ByHand
) -> None:
    executor, hands = controller(), by_hand()
    for key in (1, 2):
        executor.submit(evaluation(key))
    executor.poll(0.0)
    assert hands.take() == hands.take()


def test_there_is_room_for_workers_that_are_free(
    queue: Queue, controller: Controller, by_hand: ByHand
) -> None:
    executor = controller(workers=3)
    assert executor.room() == 0
    assert executor.poll(0.0) == [] and any("worker" in note for note in executor.notes)
    first = by_hand(run=queue.run)
    by_hand(run="another run")
    for _ in range(4):
        by_hand()
    while not executor.room():
        executor.poll(10.0)  # returns early
    assert executor.room() == 3
    other = QueueExecutor(Site("the run of others", "", queue.url), 100)
    with contextlib.closing(other):
        assert other.room() == 4  # one serves the first run only
        for key in range(3):
            other.submit(evaluation(key))
        other.poll(0.0)
    again = controller()
    assert again.room() == 5
    again.submit(evaluation(1))
    again.poll(0.0)
    first.take()
    assert controller().room() == 5  # one evaluates for the run


def test_trials_of_others_that_wait_take_workers(queue: Queue, by_hand: ByHand) -> None:
    for _ in range(2):
        by_hand()
    other = QueueExecutor(Site("the run of others", "", queue.url), 100)
    with contextlib.closing(other):
        other.submit(evaluation(1))
        other.poll(0.0)
        with contextlib.closing(queue.executor()) as executor:
            assert executor.room() == 1


# -- losses ---------------------------------------------------------------------------------------


def test_a_silent_worker_has_lost_its_task_and_its_outcome_is_late(
    controller: Controller, by_hand: ByHand
) -> None:
    executor, slow, other = controller(expiry=0.3), by_hand(), by_hand()
    executor.submit(evaluation(5))
    executor.poll(0.0)
    task = slow.take()
    lost = only(events_until(executor, is_ended))
    assert lost.outcome is None and lost.attempt == 1 and "not heard of" in lost.lost
    executor.submit(evaluation(5), attempt=2)
    executor.poll(0.0)
    again = other.take()
    assert again.attempt == 2
    assert not slow.end(task, value=0.0)
    assert slow.link.run(lambda c: slow.taker.wish(c, task)) is None
    assert other.end(again, value=2.0)
    ended = only(events_until(executor, is_ended))
    assert ended.attempt == 2 and ended.outcome is not None
    assert ended.outcome.metrics == {"value": 2.0}


def test_a_worker_that_is_heard_of_again_keeps_its_task(
    queue: Queue, controller: Controller, by_hand: ByHand
) -> None:
    executor, hands = controller(), by_hand()
    executor.submit(evaluation(5))
    executor.poll(0.0)
    task = hands.take()
    long_ago = update(WORKER).values(beat=WORKER.c.beat - 1000)
    hands.link.run(lambda c: c.execute(long_ago))
    executor._counted = 0.0  # as after a server that was away
    executor.poll(0.0)
    hands.link.run(hands.taker.beat)
    assert hands.end(task)
    assert only(events_until(executor, is_ended)).outcome is not None


def test_a_task_that_somebody_removed_is_lost(
    queue: Queue, controller: Controller, by_hand: ByHand
) -> None:
    executor, hands = controller(), by_hand()
    executor.submit(evaluation(5))
    executor.poll(0.0)
    hands.link.run(lambda c: c.execute(delete(TASK)))
    assert only(events_until(executor, is_ended)).outcome is None


# -- controllers that follow each other -----------------------------------------------------------


def test_an_outcome_is_kept_until_it_is_recorded(
    queue: Queue, controller: Controller, by_hand: ByHand
) -> None:
    first, hands = controller(), by_hand()
    first.submit(evaluation(5))
    first.poll(0.0)
    task = hands.take()
    hands.link.run(lambda c: hands.taker.report(c, task, report_text(1, 0.25)))
    hands.end(task)
    seen = events_until(first, is_ended)  # and killed before that is recorded
    second = controller()
    second.submit(evaluation(5))
    assert events_until(second, is_ended) == seen
    assert [type(event) for event in seen] == [Began, Reported, Ended]
    second.poll(0.0)
    assert queue.rows() == []


def test_a_controller_that_was_superseded_ends_nothing(
    queue: Queue, controller: Controller, by_hand: ByHand
) -> None:
    first, hands = controller(), by_hand()
    first.submit(evaluation(5))
    first.poll(0.0)
    task = hands.take()
    second = controller()
    second.submit(evaluation(5))
    second.poll(0.0)
    first.close()
    assert hands.end(task)
    assert only(events_until(second, is_ended)).outcome is not None


def test_a_task_that_was_to_end_begins_anew(
    queue: Queue, controller: Controller, by_hand: ByHand
) -> None:
    first, hands, other = controller(), by_hand(), by_hand()
    first.submit(evaluation(5))
    first.poll(0.0)
    old = hands.take()
    first._link.run(first._tasks.withdraw)  # as far as a controller got that was killed then
    assert hands.link.run(lambda c: hands.taker.wish(c, old)) == END
    second = controller()
    second.submit(evaluation(5))
    second.poll(0.0)
    new = other.take()
    assert not hands.end(old, value=0.0)
    assert other.end(new, value=2.0)
    outcome = only(events_until(second, is_ended)).outcome
    assert outcome is not None and outcome.metrics == {"value": 2.0}
