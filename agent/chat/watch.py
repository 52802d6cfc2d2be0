"""A run as it happens, followed from the chat."""

from __future__ import annotations

from rich.console import Console

from lm_searcher.agent.chat.stopping import stoppable
from lm_searcher.agent.results.live import LiveView
from lm_searcher.agent.toolbox.run_status import UNDER_WAY, RunStatus, standing
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.history import TrialState

SECONDS = 0.5
"""Between two looks."""


def watch(console: Console, workspace: Workspace, run: str | None) -> RunStatus:
    """Follow a run until it is no longer under way, or Ctrl-C. Raises UserError."""
    files = workspace.files(run)
    with stoppable(workspace, raising=False):
        stand = standing(files)
        while stand.state == "starting" and not workspace.interrupted.wait(SECONDS):
            stand = standing(files)
        if stand.result is None or stand.state not in UNDER_WAY:
            return stand
        title = f"{files.name} (Ctrl-C: back to the chat; the run goes on)"
        view = LiveView(console, title, stand.result.objectives, stand.budget)
        finished = [t for t in stand.result.trials if t.state.finished]
        view.resume(finished)
        seen = {(t.number, t.state) for t in finished}
        with view:
            while stand.state in UNDER_WAY and stand.result is not None:
                for trial in stand.result.trials:
                    if (trial.number, trial.state) not in seen:
                        seen.add((trial.number, trial.state))
                        if trial.state is not TrialState.WAITING:
                            view(trial)
                if workspace.interrupted.wait(SECONDS):
                    break
                stand = standing(files)
    return standing(files)
