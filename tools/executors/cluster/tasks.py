"""Submitted evaluations, and which place gets which."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from lm_searcher.tools.executors.cluster.messages import Holding, Submit

if TYPE_CHECKING:
    from lm_searcher.tools.executors.cluster.place import Place


class Task:
    """A submitted evaluation, until its outcome is recorded."""

    def __init__(self, submit: Submit) -> None:
        self.evaluation, self.attempt = submit.evaluation, submit.attempt
        self.key = submit.evaluation.key
        self.submit = submit
        self.place: Place | None = None
        self.stopping = self.begun = self.ended = self.recorded = False


class Tasks:
    """Evaluations go to the slots that hold them, the others to free places in their order.

    Nothing begins before `open`, when it is known what the slots of an earlier controller hold.
    """

    def __init__(self) -> None:
        self._all: dict[int, Task] = {}
        self._waiting: deque[Task] = deque()
        self._free: dict[Place, asyncio.Future[Task]] = {}
        self._claims: dict[tuple[int, int], asyncio.Future[Task | None]] = {}
        self._open = self._settled = False

    def get(self, key: int) -> Task | None:
        """An evaluation whose outcome is not recorded."""
        return self._all.get(key)

    def add(self, task: Task) -> None:
        """An evaluation was submitted."""
        self._all[task.key] = task
        if (claim := self._claims.pop((task.key, task.attempt), None)) is not None:
            task.begun = True
            claim.set_result(task)
        else:
            self._waiting.append(task)
            self.match()

    def recorded(self, key: int) -> None:
        """The outcome of an evaluation is recorded."""
        if (task := self._all.pop(key, None)) is not None:
            task.recorded = True

    def put_back(self, task: Task) -> None:
        """An evaluation has lost its place before it began."""
        task.place = None
        self._waiting.appendleft(task)
        self.match()

    def open(self) -> list[Task]:
        """From now on evaluations begin. Returns those that had begun, and that no slot holds."""
        self._open = True
        forgotten = [task for task in self._waiting if task.submit.begun]
        self._waiting = deque(task for task in self._waiting if not task.submit.begun)
        self.match()
        return forgotten

    def settle(self) -> None:
        """What slots hold, and what has not been submitted, is not wanted."""
        self._settled = True
        for claim in self._claims.values():
            claim.set_result(None)
        self._claims.clear()

    def claim(self, held: Holding) -> asyncio.Future[Task | None]:
        """The evaluation that a slot holds, once it is submitted; None if it is not wanted."""
        claim: asyncio.Future[Task | None] = asyncio.get_running_loop().create_future()
        task, name = self._all.get(held.key), (held.key, held.attempt)
        if task is not None and task.attempt == held.attempt and task in self._waiting:
            self._waiting.remove(task)
            task.begun = True
            claim.set_result(task)
        elif self._settled or name in self._claims:
            claim.set_result(None)
        else:
            self._claims[name] = claim
        return claim

    def give_up(self, claims: list[asyncio.Future[Task | None]]) -> None:
        """The slot is gone. What it held, and was submitted meanwhile, has no place."""
        self._claims = {name: c for name, c in self._claims.items() if c not in claims}

    async def next(self, place: Place) -> Task:
        """The next evaluation for a free place."""
        future: asyncio.Future[Task] = asyncio.get_running_loop().create_future()
        self._free[place] = future
        self.match()
        try:
            return await future
        finally:
            self._free.pop(place, None)

    def match(self) -> None:
        """Give the waiting evaluations to free places."""
        free = [place for place in self._free if place.available] if self._open else []
        for place in free[: len(self._waiting)]:
            task = self._waiting.popleft()
            task.place, place.task = place, task
            self._free.pop(place).set_result(task)
