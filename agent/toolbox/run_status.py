"""How a run stands: its store, its process and its run file together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from lm_searcher.agent.results.result import Result, read_run
from lm_searcher.agent.results.summary import front_line
from lm_searcher.agent.settings.run_file import RunFile, load_run_file
from lm_searcher.agent.study.lock import is_driven
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.stop import StopReason
from lm_searcher.agent.study.storage import has_run
from lm_searcher.agent.toolbox.processes import last_words, newly_ended, process, record
from lm_searcher.agent.toolbox.result import ToolResult, failure
from lm_searcher.agent.toolbox.workspace import RUN_FILE, Workspace
from lm_searcher.spaces.errors import ConfigError, UserError
from lm_searcher.spaces.history import TrialState

State = Literal["starting", "running", "paused", "stopped", "interrupted", "finished", "failed"]
"""`interrupted` is neither asked for nor an end: killed, or Ctrl-C where it runs."""

LEFT: dict[str, State] = {"pause": "paused", "stop": "stopped"}
"""What becomes of a run whose process was asked to leave."""

UNDER_WAY = ("starting", "running")

FRONT = 10
"""Members of a front that `status` lists."""


@dataclass(frozen=True)
class RunStatus:
    """A run at this moment."""

    files: RunFiles
    state: State
    result: Result | None
    """What the store has; None before the run has begun."""
    run_file: RunFile | None
    """None for a run that was not started by a tool."""
    why: str
    """Why it ended or could not begin; empty while there is no more to say."""

    @property
    def done(self) -> int:
        """Finished trials."""
        return sum(t.state.finished for t in self.result.trials) if self.result else 0

    @property
    def budget(self) -> int | None:
        """The trials that were asked for."""
        if self.run_file is not None:
            return self.run_file.budget.trials
        config = self.result.attributes.get("config", {}) if self.result else {}
        trials: int | None = config.get("budget", {}).get("trials")
        return trials

    def to_json(self) -> dict[str, Any]:
        """What a model needs to answer "how is it going?"."""
        result = self.result
        document: dict[str, Any] = {
            "run": self.files.name,
            "state": self.state,
            "trials": self.done,
            "budget": self.budget,
        }
        if self.why:
            document["why"] = self.why
        if result is None:
            return document
        states = [t.state for t in result.trials]
        best = result.incumbent
        document |= {
            "space": result.space.name,
            "ranker": result.attributes.get("config", {}).get("ranker", {}).get("name"),
            "metric": result.metric,
            "direction": result.direction,
            "failed": states.count(TrialState.FAIL),
            "best": best and {"ncode": best.ncode, "value": best.value, "trial": best.number},
            **self._front(result),
            "running": [t.ncode for t in result.trials if t.state is TrialState.RUNNING],
        }
        spent = [t.seconds for t in result.trials if t.seconds is not None]
        if spent:
            document["seconds_a_trial"] = round(sum(spent) / len(spent), 3)
            if self.state in UNDER_WAY and self.budget:
                workers = self.run_file.executor.workers if self.run_file else 1
                left = max(0, self.budget - self.done) * sum(spent) / len(spent) / workers
                document["seconds_left"] = round(left, 1)
        return document

    @staticmethod
    def _front(result: Result) -> dict[str, Any]:
        """What there is to say beyond one objective; nothing for one without constraints."""
        objectives = result.objectives
        if objectives.plain:
            return {}
        document = {
            k: v for k, v in objectives.to_json().items() if k in ("objectives", "constraints")
        }
        if objectives.several:
            front = [{"ncode": m.ncode, **m.values, "trial": m.number} for m in result.front]
            document |= {"front": front[:FRONT], "front_size": len(front)}
        return document

    def summary(self) -> str:
        """The same in one line."""
        total = f" of {self.budget}" if self.budget else ""
        words = f"{self.files.name} is {self.state}: {self.done}{total} trials"
        if self.result is not None and (best := self.result.incumbent):
            words += f", best {self.result.metric} {best.value:.4f} ({best.ncode})"
        if self.result is not None and (front := front_line(self.result)):
            words += f", front of {front}"
        return words + (f"; {self.why}" if self.why else "")


def standing(files: RunFiles) -> RunStatus:
    """How the run stands now. Raises StoreError for a store that cannot be read."""
    lives = process(files) is not None
    result = read_run(files) if has_run(files.url, files.name) else None
    run_file = run_file_of(files)
    if lives:
        stand = RunStatus(files, "running" if result else "starting", result, run_file, "")
        if stand.budget and stand.done >= stand.budget:
            return replace(stand, why="it confirms the best with fresh seeds, or is about to end")
        return stand
    if is_driven(files):
        return RunStatus(files, "running", result, run_file, "started elsewhere")
    latest = record(files)
    if result is None and latest is not None and latest.asked:  # before it had begun
        return RunStatus(files, LEFT[latest.asked], None, run_file, "")
    if result is None:
        why = last_words(files) or "its process ended before the search began"
        return RunStatus(files, "failed", None, run_file, why)
    state, why = _ended(files, result, run_file)
    return RunStatus(files, state, result, run_file, why)


def _ended(files: RunFiles, result: Result, run_file: RunFile | None) -> tuple[State, str]:
    latest = record(files)
    asked = latest.asked if latest else ""
    stop = result.stop
    if stop is not None and stop.failed:
        return "failed", str(stop)
    budget = run_file.budget.trials if run_file else None
    # A process that measured extra architectures alone has a smaller budget than the run's own.
    cut = (
        stop is not None
        and stop.reason is StopReason.TRIALS
        and budget is not None
        and len(result.trials) < budget
    )
    if stop is not None and not cut:
        return "finished", str(stop)
    if asked in LEFT:
        return LEFT[asked], ""
    if cut:
        return "paused", ""
    return "interrupted", last_words(files) if latest else ""


def run_file_of(files: RunFiles) -> RunFile | None:
    """The run file that start_search wrote; None if there is none, or none that is valid."""
    try:
        return load_run_file(files.folder / RUN_FILE)
    except ConfigError:
        return None


def finished_since(workspace: Workspace) -> list[ToolResult]:
    """Every run that has ended since this was last called, as `status` tells it; each once."""
    told = []
    for files in newly_ended(workspace):
        try:
            stand = standing(files)
            told.append(ToolResult(stand.summary(), stand.to_json()))
        except UserError as error:
            told.append(failure(f"{files.name} has ended: {error}"))
    return told
