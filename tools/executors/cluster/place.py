"""A place of the cluster: the driver's end of a slot."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import ActorUnavailableError, RayError

from lm_searcher.tools.executors.cluster.messages import Greeting, Holding, Item
from lm_searcher.tools.executors.cluster.slot import new_slot
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

    @property
    def counts(self) -> bool:
        """Whether it is free, or evaluates what was submitted."""
        return self.ready and (self.available or self.task is not None)

    @property
    def holds(self) -> bool:
        """Whether its slot may have an evaluation, or an outcome that is not recorded."""
        held = self._greeting.holding if self._greeting else self.found
        return self.task is not None or bool(held and not self.ready)

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
        self.greeted.set()
        self.pool.changed()

    def lose(self, reason: str) -> None:
        """The slot is gone, with what it evaluates."""
        task, self.task = self.task, None
        if task is None or task.ended:
            return
        if task.begun:
            where = self._greeting.place if self._greeting else self.node
            self.pool.tell(Ended(task.key, None, f"{where} was lost: {reason}", task.attempt))
        else:
            self.pool.tasks.put_back(task)

    async def _serve(self) -> None:
        self._handle = await asyncio.to_thread(self._find)
        self._greeting = await self._greet()
        self.greeted.set()
        if self._greeting.error:
            raise NotStarted(self._greeting.error)
        both = [asyncio.create_task(self._watch()), asyncio.create_task(self._work(self._greeting))]
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
            greeting: Greeting = await self._ask("greet", self.pool.work_reference, self.sharing)
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
        if (held := greeting.holding) is not None:
            self.task = await self.pool.tasks.claim(self, held)
            if self.task is None:
                await self._ask("release")
            else:
                await self._evaluate(self.task, held, greeting)
        await self.pool.discovered.wait()
        serial = greeting.serial
        while self.wanted:
            self.ready = True
            self.pool.started(self)
            task = await self.pool.tasks.next(self)
            serial += 1
            await self._evaluate(task, Holding(task.key, task.attempt, serial), greeting)
        await self.end()

    async def _evaluate(self, task: Task, holding: Holding, greeting: Greeting) -> None:
        task.begun = self.ready = True
        self._holding, seen, reports = holding, 0, 0
        self.pool.tell(Began(task.key, greeting.place))
        if task.stopping:
            self.stop()
        content = pickle.dumps((task.evaluation, holding))
        while not task.ended:
            items: list[Item] = pickle.loads(await self._ask("run", content, seen))
            seen += len(items)
            for item in items:
                if isinstance(item, str):
                    self.pool.show(item)
                elif isinstance(item, Ended):
                    task.ended = True
                    self._tell_end(item, greeting.devices)
                elif (reports := reports + 1) > task.submit.reports:
                    self.pool.tell(item)
        await task.recorded.wait()
        self.task = None

    def _tell_end(self, ended: Ended, devices: str) -> None:
        reason = (ended.outcome.reason if ended.outcome else None) or ""
        if is_crash(reason) and devices and self.pool.work.gpus < 1:
            self.pool.hold(self, devices, ended)
        else:
            self.pool.tell(ended)

    def stop(self) -> None:
        """Have the evaluation end at its next report."""
        if self._holding is not None:
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


def last_line(error: BaseException) -> str:
    """Ray ends its accounts of several lines with the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
