"""The thread that lets a worker be heard of, and listens for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lm_searcher.spaces.errors import StoreError
from lm_searcher.tools.executors.queue.link import Link
from lm_searcher.tools.executors.queue.tables import BEAT_SECONDS, WORK, wish_of
from lm_searcher.tools.executors.queue.taking import Taken, Taker

_WAKE_SECONDS = 0.5
"""The longest wait without a look at whether the worker ends."""


class _Ending(Exception):
    """The worker ends while the thread waits for the database."""


class Beats:
    """Beats, on a connection of its own, until it is closed.

    `wake` is called whenever a task may be there, or when there is something new of the worker's
    task.
    """

    def __init__(self, url: str, taker: Taker, wake: Callable[[], None]) -> None:
        self.task: Taken | None = None
        """What the worker evaluates; the worker sets it."""
        self.wish: tuple[Taken, int | None] | None = None
        """What the controller wishes of a task; see `Taker.wish`."""
        self.error: StoreError | None = None
        """Why it beats no more."""
        self._taker, self._wake = taker, wake
        self._ending = threading.Event()
        self._link = Link(url, WORK, self._check)
        self._link.run(taker.announce, patience=0.0)
        self._thread = threading.Thread(target=self._beat, name="beats", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ending.set()
        self._thread.join()
        self._link.close()

    def _check(self) -> None:
        if self._ending.is_set():
            raise _Ending

    def _beat(self) -> None:
        try:
            due = time.monotonic() + BEAT_SECONDS
            while not self._ending.is_set():
                pause = max(0.0, min(_WAKE_SECONDS, due - time.monotonic()))
                heard = self._link.listen(pause)
                if self._link.missed or time.monotonic() >= due:
                    self._link.run(self._taker.beat, durable=False)
                    self._link.missed, due = False, time.monotonic() + BEAT_SECONDS
                    self._look(None)
                elif heard:
                    self._look(heard)
        except _Ending:
            pass
        except StoreError as error:
            self.error = error
            self._wake()

    def _look(self, heard: list[str] | None) -> None:
        """Look after the worker's task, or have the worker look for one."""
        task = self.task
        if task is None:
            self._wake()
        elif heard is None or wish_of(task.run, task.evaluation.key) in heard:
            wish = self._link.run(lambda c: self._taker.wish(c, task))
            if self.task is task and wish != 0:
                self.wish = task, wish
                self._wake()
