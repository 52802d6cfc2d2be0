"""Watching runs from the chat: all of them in the background, or one in a live panel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console

from lm_searcher.agent.chat.interrupts import interruptible
from lm_searcher.agent.results.live import LiveView, clock
from lm_searcher.agent.toolbox.processes import running
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.run_status import UNDER_WAY, RunStatus, collect_ended, read_status
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.errors import UserError
from lm_searcher.spaces.history import TrialState

SECONDS = 1.0
"""Between two looks at all runs."""
LIVE_SECONDS = 0.5
"""Between two looks at the run in the live panel."""


class RunWatcher:
    """Polls the runs in a thread.

    `line` describes the runs under way; `ended` is called once for each run that has ended.
    """

    def __init__(self, workspace: Workspace, ended: Callable[[ToolResult], None]) -> None:
        self.line = ""
        self._workspace, self._ended = workspace, ended
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="run watcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._thread.join(timeout=5)

    def _poll(self) -> None:
        while not self._closing.wait(SECONDS):
            self.look()

    def look(self) -> None:
        """Look at all runs once. A run that cannot be read now is left for the next look."""
        try:
            self.line = running_line(self._workspace)
            for result in collect_ended(self._workspace):
                self._ended(result)
        except (UserError, OSError):
            return


def running_line(workspace: Workspace) -> str:
    """The runs under way in one line; empty if there are none."""
    statuses = [read_status(workspace.files_of(name)) for name in running(workspace)]
    return "  |  ".join(map(_short, statuses))


def _short(status: RunStatus) -> str:
    data = status.to_json()
    total = f"/{status.budget}" if status.budget else ""
    words = f"{status.files.name} {status.done}{total}"
    if best := data.get("best"):
        words += f", best {best['value']:.4f}"
    if left := data.get("seconds_left"):
        words += f", {clock(left)} left"
    return words


def watch(console: Console, workspace: Workspace, run: str | None) -> RunStatus:
    """Show a run live until it is no longer under way, or until Ctrl-C; return its status.

    Raises UserError for a run that does not exist.
    """
    files = workspace.files(run)
    with interruptible(workspace, raising=False):
        status = read_status(files)
        while status.state == "starting" and not workspace.interrupted.wait(LIVE_SECONDS):
            status = read_status(files)
        if status.result is None or status.state not in UNDER_WAY:
            return status
        title = f"{files.name} (Ctrl-C: back to the chat; the run goes on)"
        view = LiveView(console, title, status.result.objectives, status.budget)
        finished = [t for t in status.result.trials if t.state.finished]
        view.resume(finished)
        seen = {(t.number, t.state) for t in finished}
        with view:
            while status.state in UNDER_WAY and status.result is not None:
                for trial in status.result.trials:
                    if (trial.number, trial.state) not in seen:
                        seen.add((trial.number, trial.state))
                        if trial.state is not TrialState.WAITING:
                            view(trial)
                if workspace.interrupted.wait(LIVE_SECONDS):
                    break
                status = read_status(files)
    return read_status(files)
