"""Ctrl-C: the first lets running trials finish, the second leaves at once."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lm_searcher.tools.protocols import AskingRanker

if TYPE_CHECKING:
    from lm_searcher.agent.context import Context


@contextlib.contextmanager
def interrupts(context: Context, grace: float) -> Iterator[None]:
    """Inside this context SIGINT and SIGTERM end the search in good order.

    The first lets the running trials finish for at most `grace` seconds; the second does not
    wait. Does nothing outside the main thread, where Python delivers no signals.
    """

    def interrupted() -> None:
        again = context.control.drain_requested
        context.control.request_drain("Ctrl-C")
        if context.executor is not None:
            context.executor.cancel(after=0.0 if again else grace)
        if isinstance(context.ranker, AskingRanker):
            context.ranker.cancel()
        if not again:
            _say(f"finishing the running trial, {grace:g} s at most")

    with called_on_ctrl_c(interrupted):
        yield


@contextlib.contextmanager
def stop_on_ctrl_c(what: str) -> Iterator[Callable[[], bool]]:
    """Yields whether SIGINT or SIGTERM has come: the first only says so, and that it does
    `what`; the second raises KeyboardInterrupt."""
    signals = 0

    def interrupted() -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            raise KeyboardInterrupt
        _say(what)

    with called_on_ctrl_c(interrupted):
        yield lambda: signals > 0


@contextlib.contextmanager
def called_on_ctrl_c(act: Callable[[], None]) -> Iterator[None]:
    """Inside this context SIGINT and SIGTERM call `act`, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    both = (signal.SIGINT, signal.SIGTERM)
    before = {s: signal.signal(s, lambda signum, frame: act()) for s in both}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _say(what: str) -> None:
    print(f"\n{what} (Ctrl-C again leaves at once)", file=sys.stderr)
