"""Keeps an eye on the searches while a person types."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from lm_searcher.agent.results.live import clock
from lm_searcher.agent.toolbox.processes import running
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.run_status import RunStatus, finished_since, standing
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.errors import UserError

SECONDS = 1.0
"""Between two looks."""


class Follower:
    """Looks at the runs in a thread; `line` is how those under way stand, `ended` is told of
    each that has ended, once."""

    def __init__(self, workspace: Workspace, ended: Callable[[ToolResult], None]) -> None:
        self.line = ""
        self._workspace, self._ended = workspace, ended
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="follower", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leaving.set()
        self._thread.join(timeout=5)

    def _watch(self) -> None:
        while not self._leaving.wait(SECONDS):
            self.look()

    def look(self) -> None:
        """Once; a run that cannot be read just now is looked at again the next time."""
        try:
            self.line = under_way(self._workspace)
            for result in finished_since(self._workspace):
                self._ended(result)
        except (UserError, OSError):
            return


def under_way(workspace: Workspace) -> str:
    """The searches that run, in one line; empty if none does."""
    stands = [standing(workspace.files_of(name)) for name in running(workspace)]
    return "  |  ".join(map(_short, stands))


def _short(stand: RunStatus) -> str:
    data = stand.to_json()
    total = f"/{stand.budget}" if stand.budget else ""
    words = f"{stand.files.name} {stand.done}{total}"
    if best := data.get("best"):
        words += f", best {best['value']:.4f}"
    if left := data.get("seconds_left"):
        words += f", {clock(left)} left"
    return words
