"""Which place gets which evaluation: without a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from executor_contract import evaluation
from ray.exceptions import ActorDiedError, ActorUnavailableError

from lm_searcher.tools.executors.cluster.messages import Greeting, Holding, Submit
from lm_searcher.tools.executors.cluster.place import Place, Superseded
from lm_searcher.tools.executors.cluster.tasks import Task, Tasks


class Pool:
    """What a place uses of a pool here."""

    owner = (1, "me")
    changes = 0

    def changed(self) -> None:
        self.changes += 1


def place() -> Place:
    return Place(Pool(), "n_0_1_0", "n", 0)  # type: ignore[arg-type]


def task(key: int, attempt: int = 1, begun: bool = False) -> Task:
    return Task(Submit(evaluation(key), attempt, begun))


def in_loop(
    test: Callable[[Tasks], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    async def with_tasks() -> None:
        await test(Tasks())

    def run() -> None:
        asyncio.run(with_tasks())

    run.__doc__ = test.__doc__
    return run


@in_loop
async def test_nothing_begins_before_it_is_known_what_slots_hold(tasks: Tasks) -> None:
    waiting = asyncio.create_task(tasks.next(place()))
    tasks.add(one := task(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert tasks.open() == []
    assert await waiting is one


@in_loop
async def test_a_held_evaluation_goes_to_its_slot(tasks: Tasks) -> None:
    """Whether the slot or the evaluation is there first."""
    tasks.add(zero := task(0))
    assert await tasks.claim(Holding(0, 1, 9)) is zero and zero.begun
    claim = tasks.claim(Holding(1, 2, 9))
    tasks.add(task(1, attempt=3))  # another attempt
    tasks.add(one := task(1, attempt=2))
    assert await claim is one


@in_loop
async def test_what_is_not_submitted_is_not_wanted(tasks: Tasks) -> None:
    claim = tasks.claim(Holding(1, 1, 9))
    assert await tasks.claim(Holding(1, 1, 3)) is None  # a second slot with the same
    tasks.settle()
    assert await claim is None
    assert await tasks.claim(Holding(2, 1, 9)) is None


@in_loop
async def test_what_a_lost_slot_held_is_begun_elsewhere(tasks: Tasks) -> None:
    tasks.give_up([tasks.claim(Holding(1, 1, 9))])
    tasks.open()
    tasks.add(one := task(1))
    assert await tasks.next(place()) is one


@in_loop
async def test_what_had_begun_and_no_slot_holds_is_forgotten(tasks: Tasks) -> None:
    tasks.add(begun := task(0, begun=True))
    tasks.add(fresh := task(1))
    assert tasks.open() == [begun]
    assert await tasks.next(place()) is fresh


@in_loop
async def test_an_unavailable_place_gets_nothing(tasks: Tasks) -> None:
    tasks.open()
    away, here = place(), place()
    away.available = False
    waiting = [asyncio.create_task(tasks.next(p)) for p in (away, here)]
    await asyncio.sleep(0)
    tasks.add(one := task(0))
    assert await waiting[1] is one and one.place is here
    tasks.put_back(one)
    away.available = True
    tasks.match()
    assert await waiting[0] is one


class Method:
    """A call of a slot: its answers, or what it raises."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    async def remote(self, *arguments: Any) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_an_unavailable_slot_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm_searcher.tools.executors.cluster.place.PAUSE", 0.0)
    away = ActorUnavailableError("no route", None)

    async def test() -> None:
        one = place()
        one.ready, seen = True, []

        class Watched(Method):
            async def remote(self, *arguments: Any) -> Any:
                seen.append((one.available, one.counts))
                return await super().remote(*arguments)

        class Handle:
            run = Watched(away, away, ["item"])
            watch = Method(away, ActorDiedError())
            stop = Method(None)

        one._handle = Handle
        assert await one._ask("run") == ["item"]
        assert seen == [(True, True), (False, False), (False, False)]
        assert one.available and one.pool.changes == 2  # type: ignore[attr-defined]
        with pytest.raises(ActorDiedError):
            await one._watch()
        with pytest.raises(Superseded):
            await one._ask("stop")

    asyncio.run(test())


def test_a_greeting_of_an_earlier_controllers_slot_is_no_greeting() -> None:
    """Another slot may have told of that controller meanwhile."""

    async def test() -> None:
        one = place()
        one.found = True
        one.pool.work = SimpleNamespace(orphan=600.0)  # type: ignore[assignment]
        one.pool.come_after = lambda owner: None  # type: ignore[method-assign]
        one.pool.owner = (3, "me")
        refused, accepted = Greeting((2, "before")), Greeting((3, "me"), "here")

        class Handle:
            greet = Method(refused, accepted)

        one._handle = Handle
        assert await one._greet() is accepted

    asyncio.run(test())
