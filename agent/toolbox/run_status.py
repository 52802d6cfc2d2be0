"""The status of a run, from its store, its process and its run file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from lm_searcher.agent.results.result import Result, read_run
from lm_searcher.agent.results.summary import front_line
from lm_searcher.agent.settings.run_file import RunFile, load_run_file
from lm_searcher.agent.study.lease import is_driven
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.stop import StopReason
from lm_searcher.agent.study.stored_run import has_run
from lm_searcher.agent.toolbox.processes import last_log_line, load_record, newly_ended, process
from lm_searcher.agent.toolbox.result import ToolResult, failure
from lm_searcher.agent.toolbox.workspace import RUN_FILE, Workspace
from lm_searcher.spaces.errors import ConfigError, UserError
from lm_searcher.spaces.history import TrialState

State = Literal["starting", "running", "paused", "stopped", "interrupted", "finished", "failed"]
"""`interrupted`: the process was killed, or got Ctrl-C where it runs."""

REQUESTED: dict[str, State] = {"pause": "paused", "stop": "stopped"}
"""The state of a run whose process has ended on request, by `ProcessRecord.asked`."""

UNDER_WAY = ("starting", "running")

FRONT = 10
"""The most members of a front that `status` lists."""


@dataclass(frozen=True)
class RunStatus:
    """The state of a run at one moment."""

    files: RunFiles
    state: State
    result: Result | None
    """The stored run; None before the search has begun."""
    run_file: RunFile | None
    """The run file of `start_search`; None for a run that was started otherwise."""
    reason: str
    """Why the run ended, could not begin or takes longer; may be empty."""

    @property
    def done(self) -> int:
        """The number of finished trials."""
        return sum(t.state.finished for t in self.result.trials) if self.result else 0

    @property
    def budget(self) -> int | None:
        """The budget in trials; None if there is none."""
        if self.run_file is not None:
            return self.run_file.budget.trials
        config = self.result.attributes.get("config", {}) if self.result else {}
        trials: int | None = config.get("budget", {}).get("trials")
        return trials

    def to_json(self) -> dict[str, Any]:
        """The status as plain data. Absent values are left out, except `best`."""
        result = self.result
        document: dict[str, Any] = {
            "run": self.files.name,
            "state": self.state,
            "trials": self.done,
            "budget": self.budget,
        }
        if self.reason:
            document["why"] = self.reason
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
            **self._objectives(result),
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
    def _objectives(result: Result) -> dict[str, Any]:
        """Objectives, constraints and the front; empty for one objective without constraints."""
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
        """The status in one line."""
        total = f" of {self.budget}" if self.budget else ""
        words = f"{self.files.name} is {self.state}: {self.done}{total} trials"
        if self.result is not None and (best := self.result.incumbent):
            words += f", best {self.result.metric} {best.value:.4f} ({best.ncode})"
        if self.result is not None and (front := front_line(self.result)):
            words += f", front of {front}"
        return words + (f"; {self.reason}" if self.reason else "")


def read_status(files: RunFiles) -> RunStatus:
    """The run's current status. Raises StoreError if its store cannot be read."""
    lives = process(files) is not None
    result = read_run(files) if has_run(files.url, files.name) else None
    run_file = run_file_of(files)
    if lives:
        status = RunStatus(files, "running" if result else "starting", result, run_file, "")
        if status.budget and status.done >= status.budget:
            return replace(
                status, reason="it confirms the best with fresh seeds, or is about to end"
            )
        return status
    if is_driven(files):
        return RunStatus(files, "running", result, run_file, "started elsewhere")
    latest = load_record(files)
    if result is None and latest is not None and latest.asked:  # ended before the search began
        return RunStatus(files, REQUESTED[latest.asked], None, run_file, "")
    if result is None:
        reason = last_log_line(files) or "its process ended before the search began"
        return RunStatus(files, "failed", None, run_file, reason)
    state, reason = _ended(files, result, run_file)
    return RunStatus(files, state, result, run_file, reason)


def _ended(files: RunFiles, result: Result, run_file: RunFile | None) -> tuple[State, str]:
    """The state of a run without a process, and the reason."""
    latest = load_record(files)
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
    if asked in REQUESTED:
        return REQUESTED[asked], ""
    if cut:
        return "paused", ""
    return "interrupted", last_log_line(files) if latest else ""


def run_file_of(files: RunFiles) -> RunFile | None:
    """The run file that start_search wrote; None if it is missing or invalid."""
    try:
        return load_run_file(files.folder / RUN_FILE)
    except ConfigError:
        return None


def collect_ended(workspace: Workspace) -> list[ToolResult]:
    """The status of every run that has ended since the last call; each run is returned once."""
    results = []
    for files in newly_ended(workspace):
        try:
            status = read_status(files)
            results.append(ToolResult(status.summary(), status.to_json()))
        except UserError as error:
            results.append(failure(f"{files.name} has ended: {error}"))
    return results
