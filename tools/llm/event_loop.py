"""The event loop of this process, for code that is not asynchronous itself."""

from __future__ import annotations

import asyncio
import os
import threading
from functools import cache


def event_loop() -> asyncio.AbstractEventLoop:
    """A running event loop in a daemon thread, one per process.

    Callers may have a running loop of their own (a notebook, an MCP server), in which
    `asyncio.run` would be refused.
    """
    return _event_loop_of(os.getpid())  # a forked child has no thread that runs its parent's loop


@cache
def _event_loop_of(process: int) -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="lm_searcher event loop", daemon=True).start()
    return loop
