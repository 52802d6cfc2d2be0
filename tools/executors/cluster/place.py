"""A place of the cluster: the driver's end of a slot."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import ActorUnavailableError, RayError

from lm_searcher.tools.executors.cluster.messages import Greeting, Holding, Item
from lm_searcher.tools.executors.cluster.slot import new_slot
from lm_searcher.tools.executors.device_faults import FAULT_SECONDS
from lm_searcher.tools.executors.outcome_check import is_crash
from lm_searcher.tools.executors.protocol import Began, Ended

if TYPE_CHECKING:
    from lm_searcher.tools.executors.cluster.pool import Pool
    from lm_searcher.tools.executors.cluster.tasks import Task

PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Between two tries of a slot that is unavailable or does not start."""


class Superseded(Exception):
    """A slot obeys a newer controller."""


class NotStarted(Exception):
    """The evaluator does not start in a slot."""


class Place:
    """Keeps a slot on a node, and has it evaluate what the pool has for it.

    A slot that was `found` and is not `wanted` ends with what it holds.
    """

    def __init__(
        self, pool: Pool, name: str, node: str, index: int, *, found: bool = False
    ) -> None:
        self.pool, self.name, self.node, self.index, self.found = pool, name, node, index, found
        self.wanted, self.sharing = False, 1
        self.greeted = asyncio.Event()
        """Whether it is known what its slot holds, or that there is none."""
        self.ready, self.available = False, True
        self.task: Task | None = None
        self._handle: Any = None
        self._greeting: Greeting | None = None
        self._holding: Holding | None = None
        self._claims: list[asyncio.Future[Task | None]] = []
        self._unrecorded: dict[int, Task] = {}

    @property
    def counts(self) -> bool:
        """Whether it is free, or evaluates what was submitted."""
        return self.ready and (self.available or self.task is not None)

    @property
    def holds(self) -> bool:
        """Whether its slot may have an evaluation, or an outcome that is not recorded."""
        if self._greeting is None:
            return self.found
        unrecorded = any(not task.recorded for task in self._unrecorded.values())
        return unrecorded or self.task is not None or bool(self._claims)

    # -- the life of a slot --------------------------------------------------------------------

    async def live(self) -> None:
        """Keep a slot, or the next one, as long as the place is wanted."""
        pause = PAUSE
        while True:
            try:
                await self._serve()
                return
            except Superseded:
                self.pool.superseded()
                return
            except (RayError, NotStarted, ValueError) as error:  # ValueError: no such actor
                pause = PAUSE if self.ready else min(2 * pause, LONGEST_PAUSE)
                self._end_life(last_line(error), sure=isinstance(error, NotStarted))
            if not self.wanted:
                return
            await asyncio.sleep(pause)

    def _end_life(self, reason: str, *, sure: bool) -> None:
        if not self.ready and (sure or not self.found):
            self.pool.not_started(self, reason, sure=sure)
        self.lose(reason)
        self.ready = self.found = False
        self.available = True
        self._greeting = self._holding = None
        self._unrecorded.clear()
        self.greeted.set()
        self.pool.changed()

    def lose(self, reason: str) -> None:
        """The slot is gone, with what it evaluates and holds."""
        where = self._greeting.place if self._greeting else self.node
        tasks = [claim.result() for claim in self._claims if claim.done()]
        self.pool.tasks.give_up(self._claims)
        self._claims = []
        if self.task not in tasks:
            tasks.append(self.task)
        self.task = None
        for task in tasks:
            if task is None or task.ended:
                continue
            if task.begun:
                task.ended = True
                lost = f"{where} was lost: {reason}"
                self.pool.tell(Ended(task.key, None, lost, task.attempt))
            else:
                self.pool.tasks.put_back(task)

    async def _serve(self) -> None:
        self._handle = await asyncio.to_thread(self._find)
        greeting = self._greeting = await self._greet()
        self._claims = [self.pool.tasks.claim(held) for held in greeting.holdings]
        self.greeted.set()
        both = [asyncio.create_task(self._watch()), asyncio.create_task(self._work(greeting))]
        try:
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    def _find(self) -> Any:
        if self.found:
            return ray.get_actor(self.name)
        work = self.pool.work
        return new_slot(self.name, self.node, work.gpus, work.cpus)

    async def _greet(self) -> Greeting:
        while True:
            greeting: Greeting = await self._ask("greet", self.pool.work.orphan)
            if greeting.owner[1] == self.pool.owner[1]:
                return greeting
            if not self.found:
                raise Superseded
            self.pool.come_after(greeting.owner)

    async def _ask(self, method: str, *arguments: Any) -> Any:
        """Call the slot. One that is unavailable gets no new work, and is asked again."""
        pause = PAUSE
        while True:
            try:
                answer = await getattr(self._handle, method).remote(self.pool.owner, *arguments)
            except ActorUnavailableError:
                self._set_available(False)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            self._set_available(True)
            if answer is None:
                raise Superseded
            return answer

    def _set_available(self, available: bool) -> None:
        if available != self.available:
            self.available = available
            self.pool.changed()

    async def _watch(self) -> None:
        while True:
            await self._ask("watch")

    # -- evaluations ---------------------------------------------------------------------------

    async def _work(self, greeting: Greeting) -> None:
        for held in greeting.holdings:
            if (claimed := await self._claims[0]) is None:
                await self._ask("release", held.serial)
            else:
                await self._evaluate(claimed, held, greeting)
            del self._claims[0]
        await self.pool.discovered.wait()
        self.ready = False
        if self.wanted:
            await self._prepare()
        serial = greeting.serial
        while self.wanted:
            self.ready = True
            self.pool.started(self)
            task = await self.pool.tasks.next(self)
            serial += 1
            await self._evaluate(task, Holding(task.key, task.attempt, serial), greeting)
        await self.end()

    async def _prepare(self) -> None:
        error: str = await self._ask("prepare", self.pool.work_reference, self.sharing)
        if error:
            raise NotStarted(error)

    async def _evaluate(self, task: Task, holding: Holding, greeting: Greeting) -> None:
        task.begun = self.ready = True
        self.task, task.place, self._holding = task, self, holding
        self.pool.tell(Began(task.key, greeting.place))
        if task.stopping:
            self.stop(task)
        content, seen, reports = pickle.dumps((task.evaluation, holding)), 0, 0
        while not task.ended:
            answer = await self._ask("run", content, seen, self._recorded())
            items: list[Item] = pickle.loads(answer)
            seen += len(items)
            for item in items:
                if isinstance(item, str):
                    self.pool.show(item)
                elif isinstance(item, Ended):
                    task.ended = True
                    await self._end_task(item, holding, greeting.devices)
                elif (reports := reports + 1) > task.submit.reports:
                    self.pool.tell(item)

    def _recorded(self) -> tuple[int, ...]:
        """What the slot may forget."""
        recorded = tuple(s for s, task in self._unrecorded.items() if task.recorded)
        for serial in recorded:
            del self._unrecorded[serial]
        return recorded

    async def _end_task(self, ended: Ended, holding: Holding, devices: str) -> None:
        assert self.task is not None
        self._unrecorded[holding.serial], self.task = self.task, None
        reason = (ended.outcome.reason if ended.outcome else None) or ""
        if is_crash(reason) and devices and self.pool.work.gpus < 1:
            self.pool.hold(self, devices, ended)
            await asyncio.sleep(FAULT_SECONDS)
        else:
            self.pool.tell(ended)

    def stop(self, task: Task) -> None:
        """Have an evaluation end at its next report, if it runs here."""
        if task is self.task and self._holding is not None:
            self._handle.stop.remote(self.pool.owner, self._holding.serial)

    async def end(self) -> None:
        """End the slot and its processes, unless it obeys a newer controller."""
        self.ready = False
        if self._handle is None:
            return
        if self._greeting is not None:
            try:
                await self._ask("close")
            except (Superseded, RayError):
                return
        elif self.found:
            return
        await asyncio.to_thread(ray.kill, self._handle)
        with contextlib.suppress(RayError):  # until it is known to be dead
            await self._handle.watch.remote(self.pool.owner)


def last_line(error: BaseException) -> str:
    """Ray ends its accounts of several lines with the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
