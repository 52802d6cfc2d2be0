"""Tools that intervene in a run: evaluate or pick an architecture, prune or restore an option."""

from __future__ import annotations

from typing import Any

from lm_searcher.agent.loop.request_files import Request, submit
from lm_searcher.agent.results.result import Result
from lm_searcher.agent.settings import toml
from lm_searcher.agent.settings.build import from_run_file
from lm_searcher.agent.settings.run_file import RunFile
from lm_searcher.agent.toolbox import processes
from lm_searcher.agent.toolbox.arguments import EvaluateInRun, OneNCode, OneOption
from lm_searcher.agent.toolbox.inspection import load_run
from lm_searcher.agent.toolbox.ranking import architecture, measured_trial, value_text
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.run_status import UNDER_WAY, RunStatus
from lm_searcher.agent.toolbox.workspace import EXTRA_FILE, Workspace
from lm_searcher.spaces.errors import ConfigError, SpaceError, unknown
from lm_searcher.spaces.ncode import NCode
from lm_searcher.spaces.settings import checked
from lm_searcher.tools.feasibility import Feasibility

# -- architectures -----------------------------------------------------------------------------


def evaluate_ncode(workspace: Workspace, args: EvaluateInRun) -> ToolResult:
    """Measure an architecture as a trial of the run, if need be beyond the run's budget."""
    status, result = load_run(workspace, args.run)
    data: dict[str, Any] = architecture(result, args.ncode)
    if (trial := measured_trial(result, args.ncode)) is not None:
        data |= {"trial": trial.number, "value": trial.value, "metrics": dict(trial.metrics)}
        return ToolResult(
            f"{args.ncode} is trial {trial.number} already: {value_text(trial)}", data
        )
    if args.budget:
        raise ConfigError(
            "budget: the trials of a run have one fidelity; leave it out, and give [confirm] the "
            "full fidelity of the finalists"
        )
    _check_feasible(result, args.ncode)
    request = Request(action="pick", ncode=args.ncode, extra=True, seed=args.seed)
    if status.state in UNDER_WAY:
        submit(status.files, request)
        where = f"{args.ncode} is the next trial of {result.run}"
    else:
        if status.run_file is None:
            raise ConfigError(f"run '{result.run}' was not started by a tool and does not run now")
        _write_extra(status)
        submit(status.files, request)
        processes.start(status.files, EXTRA_FILE)
        where = f"{args.ncode} is measured now, as one more trial of {result.run}"
    workspace.committed += 1
    return ToolResult(f"{where}; wait, then ask again for its value", data)


def evaluate_costs(workspace: Workspace, args: EvaluateInRun) -> str | None:
    """The trial must be confirmed if it exceeds the workspace's budget."""
    _, result = load_run(workspace, args.run)
    excess = workspace.over_budget(1)
    if excess is None or measured_trial(result, args.ncode) is not None:
        return None
    return f"Measure {args.ncode} in run '{result.run}'? {excess}."


def _write_extra(status: RunStatus) -> None:
    """Write a run file that only evaluates the waiting requests and confirms nothing."""
    assert status.run_file is not None
    document = status.run_file.model_dump(mode="json", exclude_unset=True)
    document["budget"] = {"trials": max(1, status.done)}
    document["confirm"] = {"top": 0}
    toml.write_text(status.files.folder / EXTRA_FILE, toml.dumps(document))


def override_next(workspace: Workspace, args: OneNCode) -> ToolResult:
    """Make an architecture the run's next pick, now or when the run is resumed."""
    status, result = load_run(workspace, args.run)
    data = architecture(result, args.ncode)
    if (trial := measured_trial(result, args.ncode)) is not None:
        raise ConfigError(f"'{args.ncode}' is trial {trial.number} already: {value_text(trial)}")
    if status.state == "finished":
        raise ConfigError(f"{status.summary()}; take evaluate_ncode, or resume with more trials")
    _check_feasible(result, args.ncode)
    submit(status.files, Request(action="pick", ncode=args.ncode))
    return ToolResult(f"{args.ncode} is the next pick of {result.run}{_when(status)}", data)


def _check_feasible(result: Result, ncode: NCode) -> None:
    """Raise NCodeError if the architecture is known to break a constraint of the run."""
    if not result.objectives.constraints:
        return
    run_file = checked(RunFile, result.attributes.get("config", {}), f"run '{result.run}'")
    space, evaluator = from_run_file(run_file)
    feasibility = Feasibility.of(space, evaluator, result.objectives.constraints)
    if feasibility is not None:
        feasibility.check(ncode)


def _when(status: RunStatus) -> str:
    return "" if status.state in UNDER_WAY else " once it goes on"


# -- options -----------------------------------------------------------------------------------


def prune_option(workspace: Workspace, args: OneOption) -> ToolResult:
    """Exclude architectures with this option from the rest of the run."""
    return _request(workspace, args, "prune")


def restore_option(workspace: Workspace, args: OneOption) -> ToolResult:
    """Search this option again; memory does not prune it anymore."""
    return _request(workspace, args, "widen")


def _request(workspace: Workspace, args: OneOption, action: str) -> ToolResult:
    status, result = load_run(workspace, args.run)
    place, option = _option(result, args)
    pruned = not result.subspace.mask[place, option]
    if action == "prune":
        if not pruned:
            result.subspace.restrict(place, option)  # raises SpaceError for the last option
    elif not pruned:
        raise SpaceError(f"{args.position} = {args.choice} is searched already")
    submit(
        status.files,
        Request.model_validate({"action": action, "position": place, "option": option}),
    )
    words = "is searched no more" if action == "prune" else "is searched again"
    summary = f"{args.position} = {args.choice} {words} in {result.run}{_when(status)}"
    return ToolResult(summary, {"run": result.run, "position": args.position, "option": option})


def _option(result: Result, args: OneOption) -> tuple[int, int]:
    names = [p.name for p in result.space.positions]
    if args.position not in names:
        raise SpaceError(unknown("position", args.position, names))
    place = names.index(args.position)
    choices = [str(c) for c in result.space.positions[place].choices]
    if str(args.choice) not in choices:
        raise SpaceError(unknown(f"option of '{args.position}'", str(args.choice), choices))
    return place, choices.index(str(args.choice))
