"""Ctrl-C: once to finish what runs and leave, twice to leave at once."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from lm_searcher.agent.state import Context
from lm_searcher.tools.protocols import AskingRanker


@contextlib.contextmanager
def interrupts(context: Context, grace: float) -> Iterator[None]:
    """Within, SIGINT and SIGTERM make the search leave in good order.

    The first lets the running trials finish for at most `grace` seconds; the second does not
    wait. Does nothing outside the main thread, where Python delivers no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        again, context.interrupted = context.interrupted, True
        if context.executor is not None:
            context.executor.cancel(after=0.0 if again else grace)
        if isinstance(context.ranker, AskingRanker):
            context.ranker.cancel()
        if not again:
            print(
                f"\nfinishing the running trial, {grace:g} s at most (Ctrl-C again leaves at once)",
                file=sys.stderr,
            )

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
