"""Tools about running searches: status, waiting, ending and resuming."""

from __future__ import annotations

import time
import tomllib

from lm_searcher.agent.settings import toml
from lm_searcher.agent.study.lease import is_driven
from lm_searcher.agent.toolbox import processes
from lm_searcher.agent.toolbox.arguments import OneRun, Resume, Wait
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.run_status import UNDER_WAY, RunStatus, read_status
from lm_searcher.agent.toolbox.workspace import RUN_FILE, Workspace
from lm_searcher.spaces.errors import ConfigError

# -- status ------------------------------------------------------------------------------------


def status(workspace: Workspace, args: OneRun) -> ToolResult:
    """The status of one run; without a name: of the latest, and the others in short."""
    files = workspace.files(args.run)
    status = read_status(files)
    data = status.to_json()
    if args.run is None:
        names = [name for name in workspace.names() if name != files.name]
        others = [read_status(workspace.files_of(name)) for name in names[-20:]]
        data["others"] = [
            {"run": s.files.name, "state": s.state, "trials": s.done} for s in reversed(others)
        ]
    return ToolResult(status.summary(), data)


def wait(workspace: Workspace, args: Wait) -> ToolResult:
    """Wait until the run is no longer under way, or `seconds` have passed; then its status."""
    files = workspace.files(args.run)
    end = time.monotonic() + args.seconds
    while (processes.process(files) or is_driven(files)) and time.monotonic() < end:
        if workspace.interrupted.wait(0.1):
            break
    status = read_status(files)
    return ToolResult(status.summary(), status.to_json())


# -- ending and resuming -----------------------------------------------------------------------


def pause(workspace: Workspace, args: OneRun) -> ToolResult:
    """Let the running trial finish, then end the process."""
    return _end(workspace, args, "pause")


def stop(workspace: Workspace, args: OneRun) -> ToolResult:
    """Let the running trial finish, end the process, and mark the run as stopped."""
    return _end(workspace, args, "stop")


def stop_costs(workspace: Workspace, args: OneRun) -> str | None:
    """A user must confirm that a run is ended."""
    status = read_status(workspace.files(args.run))
    if status.state == "finished":
        return None
    return f"Stop the search '{status.files.name}'? {status.summary()}."


def _end(workspace: Workspace, args: OneRun, asked: str) -> ToolResult:
    files = workspace.files(args.run)
    before = read_status(files)
    possible = UNDER_WAY if asked == "pause" else (*UNDER_WAY, "paused", "interrupted")
    if before.state not in possible:
        raise ConfigError(f"{before.summary()}; there is nothing to {asked}")
    if processes.request_exit(files, asked):
        after = read_status(files)
        return ToolResult(after.summary(), after.to_json())
    data = read_status(files).to_json() | {"state": "leaving"}
    return ToolResult(f"{files.name} finishes its running trial, then it will {asked}", data)


def resume(workspace: Workspace, args: Resume) -> ToolResult:
    """Resume a run, with another budget if one is given."""
    status, total = _resumable(workspace, args)
    files = status.files
    if args.trials is not None:
        document = tomllib.loads((files.folder / RUN_FILE).read_text(encoding="utf-8"))
        document.setdefault("budget", {})["trials"] = args.trials
        toml.write_text(files.folder / RUN_FILE, toml.dumps(document))
    processes.start(files)
    workspace.commit(files.name, status.done, total)
    summary = f"{files.name} goes on from trial {status.done} to {total}"
    return ToolResult(summary, {"run": files.name, "state": "starting", "budget": total})


def resume_costs(workspace: Workspace, args: Resume) -> str | None:
    """Trials beyond the workspace's budget need a confirmation."""
    status, total = _resumable(workspace, args)
    excess = workspace.over_budget(workspace.uncounted(status.files.name, status.done, total))
    return excess and f"Go on with '{status.files.name}' to trial {total}? {excess}."


def _resumable(workspace: Workspace, args: Resume) -> tuple[RunStatus, int]:
    """The run and its budget in trials. Raises ConfigError if it cannot be resumed."""
    status = read_status(workspace.files(args.run))
    if status.state in UNDER_WAY:
        raise ConfigError(f"{status.summary()}; it is under way")
    if status.run_file is None:
        raise ConfigError(
            f"run '{status.files.name}' was not started by a tool; "
            "resume it by lm-searcher run with its run file"
        )
    total = args.trials or status.budget or 0
    if status.state == "finished" and total <= status.done:
        raise ConfigError(f"{status.summary()}; give trials above {status.done} to search on")
    return status, total
