"""Tools that follow searches, end them and go on with them."""

from __future__ import annotations

import time
import tomllib

from lm_searcher.agent.settings import toml
from lm_searcher.agent.study.lock import is_driven
from lm_searcher.agent.toolbox import processes
from lm_searcher.agent.toolbox.arguments import OneRun, Resume, Wait
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.run_status import UNDER_WAY, RunStatus, standing
from lm_searcher.agent.toolbox.workspace import RUN_FILE, Workspace
from lm_searcher.spaces.errors import ConfigError

# -- following ---------------------------------------------------------------------------------


def status(workspace: Workspace, args: OneRun) -> ToolResult:
    """How one run stands; without a name, the latest and the others in short."""
    files = workspace.files(args.run)
    stand = standing(files)
    data = stand.to_json()
    if args.run is None:
        names = [name for name in workspace.names() if name != files.name]
        others = [standing(workspace.files_of(name)) for name in names[-20:]]
        data["others"] = [
            {"run": s.files.name, "state": s.state, "trials": s.done} for s in reversed(others)
        ]
    return ToolResult(stand.summary(), data)


def wait(workspace: Workspace, args: Wait) -> ToolResult:
    """The run's status once it is no longer under way, or when the time is up."""
    files = workspace.files(args.run)
    end = time.monotonic() + args.seconds
    while (processes.process(files) or is_driven(files)) and time.monotonic() < end:
        if workspace.interrupted.wait(0.1):
            break
    stand = standing(files)
    return ToolResult(stand.summary(), stand.to_json())


# -- ending and going on -----------------------------------------------------------------------


def pause(workspace: Workspace, args: OneRun) -> ToolResult:
    """Let the running trial finish, then leave."""
    return _left(workspace, args, "pause")


def stop(workspace: Workspace, args: OneRun) -> ToolResult:
    """The same, and mark the run as ended."""
    return _left(workspace, args, "stop")


def stop_costs(workspace: Workspace, args: OneRun) -> str | None:
    """Ending a run is for a person to say."""
    stand = standing(workspace.files(args.run))
    if stand.state == "finished":
        return None
    return f"Stop the search '{stand.files.name}'? {stand.summary()}."


def _left(workspace: Workspace, args: OneRun, why: str) -> ToolResult:
    files = workspace.files(args.run)
    before = standing(files)
    can = UNDER_WAY if why == "pause" else (*UNDER_WAY, "paused", "interrupted")
    if before.state not in can:
        raise ConfigError(f"{before.summary()}; there is nothing to {why}")
    if processes.ask_to_leave(files, why):
        after = standing(files)
        return ToolResult(after.summary(), after.to_json())
    data = standing(files).to_json() | {"state": "leaving"}
    return ToolResult(f"{files.name} finishes its running trial, then it will {why}", data)


def resume(workspace: Workspace, args: Resume) -> ToolResult:
    """Go on, with another budget if one is given."""
    stand, total = _to_go_on(workspace, args)
    files = stand.files
    if args.trials is not None:
        document = tomllib.loads((files.folder / RUN_FILE).read_text(encoding="utf-8"))
        document.setdefault("budget", {})["trials"] = args.trials
        toml.write_text(files.folder / RUN_FILE, toml.dumps(document))
    processes.start(files)
    workspace.commit(files.name, stand.done, total)
    summary = f"{files.name} goes on from trial {stand.done} to {total}"
    return ToolResult(summary, {"run": files.name, "state": "starting", "budget": total})


def resume_costs(workspace: Workspace, args: Resume) -> str | None:
    """Trials beyond the budget."""
    stand, total = _to_go_on(workspace, args)
    more = workspace.further(stand.files.name, stand.done, total)
    beyond = workspace.beyond(more)
    return beyond and f"Go on with '{stand.files.name}' to trial {total}? {beyond}."


def _to_go_on(workspace: Workspace, args: Resume) -> tuple[RunStatus, int]:
    """The run, and the trials it is to come to. Raises ConfigError if it cannot go on."""
    stand = standing(workspace.files(args.run))
    if stand.state in UNDER_WAY:
        raise ConfigError(f"{stand.summary()}; it is under way")
    if stand.run_file is None:
        raise ConfigError(
            f"run '{stand.files.name}' was not started by a tool; "
            "a person goes on with it by lm-searcher run and its run file"
        )
    total = args.trials or stand.budget or 0
    if stand.state == "finished" and total <= stand.done:
        raise ConfigError(f"{stand.summary()}; give trials above {stand.done} to search on")
    return stand, total
