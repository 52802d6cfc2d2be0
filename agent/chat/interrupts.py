"""Ctrl-C in the chat ends the current action, not the chat."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from lm_searcher.agent.toolbox.workspace import Workspace


@contextlib.contextmanager
def interruptible(workspace: Workspace, raising: bool = True) -> Iterator[None]:
    """Within the context Ctrl-C sets `workspace.interrupted`, which waiting tools check.

    With `raising`, Ctrl-C raises KeyboardInterrupt too. Python drops an exception that a signal
    handler raises inside a destructor, so loops have to check `interrupted` as well.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        workspace.interrupted.set()
        if raising:
            raise KeyboardInterrupt

    workspace.interrupted.clear()
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
