"""The places of a cluster: found, made, and ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import ray

from lm_searcher.tools.executors.cluster.messages import (
    Answer,
    Happened,
    Note,
    Owner,
    Refused,
    Submit,
    Work,
)
from lm_searcher.tools.executors.cluster.nodes import Node, wanted_places
from lm_searcher.tools.executors.cluster.place import Place
from lm_searcher.tools.executors.cluster.tasks import Task, Tasks
from lm_searcher.tools.executors.device_faults import FAULT_SECONDS, DeviceFaults
from lm_searcher.tools.executors.protocol import Ended, Event

DISCOVERY = 30.0
"""Seconds that the slots of an earlier controller have to say what they hold."""

CLOSING = 20.0
"""Seconds that slots have to end."""

PATIENCE = 60.0
"""Seconds without a slot after which the user is told."""

STARTS = 3
"""How often a slot of a node may fail to start before the node counts as unusable."""


class Pool:
    """All methods are for the event loop of the driver. `answer` sends to the executor; the driver
    shows texts in the run's log by `show`."""

    def __init__(
        self,
        work: Work,
        name: str,
        workers: int,
        answer: Callable[[Answer], None],
        show: Callable[[str], None],
    ) -> None:
        self.work, self.workers, self.show = work, workers, show
        self.work_reference: Any = ray.put(work)
        self.owner: Owner = (1, name)
        self.tasks = Tasks()
        self.discovered = asyncio.Event()
        self._answer = answer
        self._places: dict[str, Place] = {}
        self._lives: dict[Place, asyncio.Task[None]] = {}
        self._nodes: dict[str, Node] = {}
        self._faults = DeviceFaults()
        self._failures: dict[str, int] = {}
        self._events: list[Event] = []
        self._told, self._scheduled = 0, False

    # -- what is told --------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """Send an event to the executor, with the others of this moment."""
        self._events.append(event)
        self._schedule()

    def changed(self) -> None:
        """A place has become usable, or unusable."""
        self.tasks.match()
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        count = sum(place.counts for place in self._places.values())
        if self._events or count != self._told:
            events, self._events, self._told = tuple(self._events), [], count
            self._answer(Happened(events, count))

    def superseded(self) -> None:
        """A slot obeys a newer controller."""
        self._answer(Refused("another controller has taken over the slots of this run"))

    def not_started(self, place: Place, reason: str, *, sure: bool) -> None:
        """A slot did not start; `sure`: another one would not either.

        If that is so on every node, nothing ever starts.
        """
        self.show(f"slot {place.name} did not start: {reason}\n")
        if not place.wanted:
            return
        failures = self._failures.get(place.node, 0)
        if not failures:
            host = self._nodes[place.node].host if place.node in self._nodes else place.node
            self._answer(Note(f"a slot on {host} does not start: {reason}"))
        self._failures[place.node] = failures + (STARTS if sure else 1)
        wanted = [p for p in self._places.values() if p.wanted]
        if all(not p.ready and self._failures.get(p.node, 0) >= STARTS for p in wanted):
            self._answer(Refused(reason))

    def started(self, place: Place) -> None:
        """A slot has started."""
        self._failures.pop(place.node, None)
        self.changed()

    def _say_if_none_started(self) -> None:
        if not self._failures and not any(place.ready for place in self._places.values()):
            self._answer(Note("no slot has started yet; 'ray status' tells what is in use"))

    def hold(self, place: Place, devices: str, ended: Ended) -> None:
        """Tell of a crash on a shared GPU when it is known whose fault it is."""
        loop = asyncio.get_running_loop()
        self._faults.hold(id(place), devices, loop.time(), ended)
        loop.call_later(FAULT_SECONDS + 0.01, self._settle_faults)
        self._settle_faults()

    def _settle_faults(self) -> None:
        for ended in self._faults.settle(asyncio.get_running_loop().time()):
            self.tell(ended)

    # -- evaluations ---------------------------------------------------------------------------

    def submit(self, submit: Submit) -> None:
        """Begin an evaluation, or find it again."""
        task = Task(submit)
        self.tasks.add(task)
        if self.discovered.is_set() and submit.begun and task.place is None:
            self._forget()

    def stop(self, key: int) -> None:
        """Have an evaluation end at its next report."""
        if (task := self.tasks.get(key)) is not None:
            task.stopping = True
            if task.place is not None:
                task.place.stop(task)

    def _forget(self) -> None:
        for task in self.tasks.open():
            self.tell(Ended(task.key, None, "the cluster lost it", task.attempt))

    # -- places --------------------------------------------------------------------------------

    def come_after(self, owner: Owner) -> None:
        """Be newer than the controller that a found slot obeys."""
        self.owner = max(self.owner, (owner[0] + 1, self.owner[1]))

    async def discover(self, nodes: Iterable[Node]) -> None:
        """Find the slots of an earlier controller and what they hold, then make those wanted."""
        for name in await asyncio.to_thread(ray.util.list_named_actors):
            node, index, *_ = name.split("_")
            self._keep(Place(self, name, node, int(index), found=True))
        greeted = [asyncio.create_task(p.greeted.wait()) for p in self._places.values()]
        if greeted:
            _, late = await asyncio.wait(greeted, timeout=DISCOVERY)
            for task in late:
                task.cancel()
        self.adjust(nodes)
        self.discovered.set()
        self._forget()
        asyncio.get_running_loop().call_later(PATIENCE, self._say_if_none_started)

    def adjust(self, nodes: Iterable[Node]) -> None:
        """Have the places that the nodes have room for; those of other nodes are lost."""
        before, self._nodes = self._nodes, {node.id: node for node in nodes}
        for id, node in before.items():
            if id not in self._nodes and node.places:
                self._answer(Note(f"node {node.host} is gone, and its {node.places} places"))
        for id, node in self._nodes.items():
            if self.discovered.is_set() and id not in before and node.places:
                self._answer(Note(f"node {node.host} has joined, with {node.places} places"))
        for place in list(self._places.values()):
            if place.node not in self._nodes:
                self._drop(place, "its node is gone")
        present = [(place.node, place.index) for place in self._places.values()]
        for node, index in wanted_places(self._nodes.values(), present, self.workers):
            name = f"{node.id}_{index}_{self.work.gpus:g}_{self.work.cpus:g}"
            place = self._places.get(name) or Place(self, name, node.id, index)
            place.wanted, place.sharing = True, node.places
            if name not in self._places:
                self._keep(place)

    def _keep(self, place: Place) -> None:
        self._places[place.name] = place
        self._lives[place] = life = asyncio.create_task(place.live())
        life.add_done_callback(lambda _: self._ended(place, life))

    def _ended(self, place: Place, life: asyncio.Task[None]) -> None:
        self._places.pop(place.name, None)
        self._lives.pop(place, None)
        self._schedule()
        if not life.cancelled() and (error := life.exception()) is not None:
            self._answer(Refused(f"{type(error).__name__}: {error}"))

    def _drop(self, place: Place, reason: str) -> None:
        place.lose(reason)
        self._places.pop(place.name, None)
        self._lives[place].cancel()
        self._schedule()

    async def await_discovery(self) -> None:
        """Wait until the slots of an earlier controller are found, but not for long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.discovered.wait(), CLOSING)

    async def close(self, keep: bool) -> None:
        """End the slots; with `keep`, without those that have something for a later controller."""
        lives = dict(self._lives)
        for life in lives.values():
            life.cancel()
        await asyncio.gather(*lives.values(), return_exceptions=True)
        ends = [place.end() for place in lives if not (keep and place.holds)]
        if ends:
            await asyncio.wait(map(asyncio.create_task, ends), timeout=CLOSING)
