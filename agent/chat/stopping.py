"""Ctrl-C in the chat ends what is under way, not the chat."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from lm_searcher.agent.toolbox.workspace import Workspace


@contextlib.contextmanager
def stoppable(workspace: Workspace, raising: bool = True) -> Iterator[None]:
    """Within, Ctrl-C sets `workspace.interrupted`, which a tool that waits heeds, and raises
    KeyboardInterrupt if it is `raising`.

    Python loses an exception that a signal raises within a destructor, so what loops looks at
    `interrupted` besides.
    """

    def interrupted(number: int, frame: FrameType | None) -> None:
        workspace.interrupted.set()
        if raising:
            raise KeyboardInterrupt

    workspace.interrupted.clear()
    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
