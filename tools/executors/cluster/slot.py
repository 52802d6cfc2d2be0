"""A slot: a detached actor on a node of the cluster that evaluates one architecture at a time."""

from __future__ import annotations

import os
import pickle
import queue
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray

from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.tools.executors.cluster.messages import Greeting, Holding, Item, Owner, Work
from lm_searcher.tools.executors.cluster.slot_worker import SlotWorker
from lm_searcher.tools.executors.protocol import Ended
from lm_searcher.tools.protocols import Cancelled, Evaluation

CALLS = 8
"""Calls of a slot at the same time: each controller has two that wait."""

WAIT = 60.0
"""The longest that a call waits for news."""

_LOOK = 1.0
"""Seconds between two looks at the clock and at the output of an evaluation."""


@dataclass
class _Held:
    """An evaluation that is to run, runs, or has ended and is not recorded."""

    holding: Holding
    items: list[Item] = field(default_factory=list)
    ended: bool = False
    dropped: bool = False


_call = ray.method(enable_task_events=False)
"""Ray keeps no record of calls: those take as long as a call."""
_Job = tuple[Callable[[], None], threading.Event]


class Slot:
    """Keeps what became of its evaluations until that is recorded.

    It ends itself `orphan` seconds after the last call of a controller. A call of a controller
    that is not the newest is answered by None. Calls come in several threads; a thread of its own
    works with the worker process.
    """

    def __init__(self) -> None:
        self._gpus = tuple(str(gpu) for gpu in ray.get_gpu_ids())
        self._node = ray.get_runtime_context().get_node_id()
        self._owner: Owner = (0, "")
        self._contact, self._orphan = time.monotonic(), WAIT
        self._held: dict[int, _Held] = {}
        self._serial = 0
        self._stops: set[int] = set()
        self._worker: SlotWorker | None = None
        self._error = ""
        self._changed = threading.Condition()
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    # -- calls of controllers ------------------------------------------------------------------

    @_call
    def greet(self, owner: Owner, orphan: float) -> Greeting:
        """Obey this controller."""
        if not self._obeys(owner):
            return Greeting(self._owner)
        host, gpus = socket.gethostname(), ",".join(self._gpus)
        with self._changed:
            self._orphan = orphan
            return Greeting(
                owner,
                place=f"{host} gpu {gpus}" if gpus else host,
                devices=f"{gpus} of {host} ({self._node[:8]})" if gpus else "",
                serial=self._serial,
                holdings=tuple(held.holding for held in self._held.values()),
            )

    @_call
    def prepare(self, owner: Owner, work: Work, sharing: int) -> str | None:
        """Evaluate like this from now on; waits until the evaluator is loaded. An error's text if
        it does not load, else an empty one. `sharing` slots have room on this node."""
        if not self._obeys(owner):
            return None
        self._do(lambda: self._prepare(work, sharing)).wait()
        return self._error

    @_call
    def run(
        self, owner: Owner, content: bytes, seen: int, recorded: tuple[int, ...]
    ) -> bytes | None:
        """Begin an evaluation, unless it is held; what became of it after `seen` items.

        `content` is an evaluation and its Holding, and the answer a list of items, both pickled:
        Ray takes longer for it. `recorded` may be forgotten. Waits for an item, but not for ever.
        A late call for an evaluation of before, when the slot was unavailable, does nothing.
        """
        if not self._obeys(owner):
            return None
        evaluation, holding = pickle.loads(content)
        with self._changed:
            for serial in recorded:
                self._held.pop(serial, None)
            if holding.serial > self._serial:
                self._serial = holding.serial
                held = self._held[self._serial] = _Held(holding)
                self._do(partial(self._evaluate, held, evaluation))
            if (held_before := self._held.get(holding.serial)) is None:
                return pickle.dumps([])
            items = held_before.items
            self._changed.wait_for(lambda: len(items) > seen or self._left(owner), WAIT)
            return None if self._left(owner) else pickle.dumps(items[seen:])

    @_call
    def watch(self, owner: Owner) -> bool | None:
        """Waits for long. The call keeps the slot alive, and its failure tells of the slot's."""
        if not self._obeys(owner):
            return None
        with self._changed:
            pause = min(WAIT, self._orphan / 3)
            return None if self._changed.wait_for(lambda: self._left(owner), pause) else True

    @_call
    def stop(self, owner: Owner, serial: int) -> None:
        """Have this evaluation end at its next report."""
        if self._obeys(owner):
            self._stops.add(serial)

    @_call
    def release(self, owner: Owner, serial: int) -> bool | None:
        """Forget an evaluation and its outcome; ends it if it runs."""
        if not self._obeys(owner):
            return None
        self._drop(serial)
        return True

    @_call
    def close(self, owner: Owner) -> bool | None:
        """End the worker process and its evaluation; the slot itself is then to be killed."""
        if not self._obeys(owner):
            return None
        for serial in list(self._held):
            self._drop(serial)
        self._do(self._close).wait()
        return True

    def _obeys(self, owner: Owner) -> bool:
        with self._changed:
            self._contact = time.monotonic()
            if owner > self._owner:
                self._owner = owner
                self._changed.notify_all()  # calls of an earlier controller end
            return not self._left(owner)

    def _left(self, owner: Owner) -> bool:
        """Whether another controller is obeyed."""
        return self._owner[1] != owner[1]

    def _drop(self, serial: int) -> None:
        with self._changed:
            held = self._held.pop(serial, None)
            if held is not None and not held.ended:
                held.dropped = True
                if self._worker is not None:
                    self._worker.cancel()

    # -- the slot's own thread -----------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            try:
                job, done = self._jobs.get(timeout=_LOOK)
            except queue.Empty:
                self._look()
                continue
            try:
                job()
            except BaseException:  # a slot without its thread would hold its GPU for nothing
                traceback.print_exc()
                os._exit(1)
            done.set()

    def _do(self, job: Callable[[], None]) -> threading.Event:
        """Have the slot's thread do this; the event tells that it is done."""
        done = threading.Event()
        self._jobs.put((job, done))
        return done

    def _look(self) -> None:
        """End the slot if no controller has called for long."""
        with self._changed:
            left = self._contact + self._orphan - time.monotonic()
        if left < 0:
            self._close()
            os._exit(0)

    def _prepare(self, work: Work, sharing: int) -> None:
        """Load the evaluator, unless it is loaded."""
        if self._worker is None or not self._worker.does(work, sharing):
            self._close()
            self._worker = SlotWorker(work, sharing, self._gpus)
        try:
            self._worker.load()
            self._error = ""
        except EvaluatorError as reason:
            self._close()
            self._error = str(reason)

    def _evaluate(self, held: _Held, evaluation: Evaluation) -> None:
        holding, worker = held.holding, self._worker
        try:
            if worker is None:
                raise EvaluatorError(self._error)
            worker.load()
            if held.dropped:  # before `cancel` could reach it
                return
            worker.submit(evaluation, holding.attempt)
            while not held.ended:
                items = worker.poll(_LOOK)
                if holding.serial in self._stops:
                    worker.stop(holding.key)
                self._add(held, items)
                self._look()
        except Cancelled:
            pass
        except EvaluatorError as reason:
            self._close()
            self._error = str(reason)
            self._add(held, [Ended(holding.key, None, self._error, holding.attempt)])
        finally:
            self._stops.discard(holding.serial)
            if held.dropped and worker is not None:
                worker.close()  # with what runs; the next evaluation loads it again

    def _add(self, held: _Held, items: list[Item]) -> None:
        if items:
            with self._changed:
                held.items += items
                held.ended = any(isinstance(item, Ended) for item in items)
                self._changed.notify_all()

    def _close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()


def new_slot(name: str, node: str, gpus: float, cpus: float) -> Any:
    """The handle of the slot of this name on a node, which is made if there is none."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    actor: Any = ray.remote(Slot)
    return actor.options(
        name=name,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=cpus,
        num_gpus=gpus,
        max_restarts=0,
        max_task_retries=0,
        max_concurrency=CALLS,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
    ).remote()
