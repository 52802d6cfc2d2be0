"""Tools for a hand on the search: architectures and options that a person names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lm_searcher.agent.loop.preview import preview
from lm_searcher.agent.loop.request_files import Request, submit
from lm_searcher.agent.problem import Problem
from lm_searcher.agent.results.result import Result
from lm_searcher.agent.settings import toml
from lm_searcher.agent.settings.build import from_run_file
from lm_searcher.agent.settings.run_file import RunFile, checked
from lm_searcher.agent.toolbox import processes
from lm_searcher.agent.toolbox.arguments import OneNCode, OneOption
from lm_searcher.agent.toolbox.inspection import begun
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.run_status import UNDER_WAY, RunStatus
from lm_searcher.agent.toolbox.workspace import EXTRA_FILE, Workspace
from lm_searcher.spaces.errors import ConfigError, RankerError, SpaceError, unknown
from lm_searcher.spaces.history import Trial
from lm_searcher.spaces.ncode import NCode
from lm_searcher.tools.feasibility import Feasibility
from lm_searcher.tools.rankers import RANKERS

# -- architectures -----------------------------------------------------------------------------


def rank_ncode(workspace: Workspace, args: OneNCode) -> ToolResult:
    """The place of an architecture in the run's order of preference, and the run's next picks."""
    status, result = begun(workspace, args.run)
    data: dict[str, Any] = _architecture(result, args.ncode)
    if (trial := measured(result, args.ncode)) is not None:
        values = [t.value for t in result.trials if t.value is not None]
        better = sum(result.sign * v > result.sign * (trial.value or 0.0) for v in values)
        data |= {"trial": trial.number, "value": trial.value, "reason": trial.reason}
        if trial.value is not None and not result.objectives.plain:
            return _standing_of(result, trial, data)
        if trial.value is None:
            return ToolResult(f"{args.ncode} is trial {trial.number}: {trial.state}", data)
        data |= {"place": better + 1, "of": len(values)}
        words = f"{args.ncode} is trial {trial.number}: {result.metric} {trial.value:.4f}"
        return ToolResult(f"{words}, place {better + 1} of {len(values)} measured", data)
    problem = _problem(status, result)
    ahead, name = preview(problem, result, args.ncode), problem.settings.ranker.name
    data |= {"place": ahead.place, "of": ahead.candidates, "ranker": name, "next": ahead.picks}
    words = f"{name} puts {args.ncode} at place {ahead.place} of {ahead.candidates:,} candidates"
    if ahead.initial:
        initial = problem.settings.ranker.initial
        words += f" (the first {initial} trials are random, it is not asked yet)"
    return ToolResult(f"{words}; next: {', '.join(ahead.picks) or 'none'}", data)


def _problem(status: RunStatus, result: Result) -> Problem:
    """What the run searches, from its stored settings.

    Raises RankerError for a ranker that asks a model: each order costs.
    """
    run_file = checked(RunFile, result.attributes.get("config", {}), f"run '{result.run}'")
    if run_file.ranker.name not in RANKERS:
        raise RankerError(
            f"ranker '{run_file.ranker.name}' asks a model for every order; rank_ncode works for "
            "runs of " + ", ".join(RANKERS)
        )
    space, evaluator = from_run_file(run_file)
    return replace(Problem.of(space, evaluator, run_file), files=status.files)


def _standing_of(result: Result, trial: Trial, data: dict[str, Any]) -> ToolResult:
    """A measured architecture where there are several objectives, or constraints."""
    known = [t for t in result.trials if t.value is not None]
    scores = result.objectives.scores(*result.objectives.arrays(known))
    better = int(np.sum(scores > scores[known.index(trial)]))
    on_front = any(member.number == trial.number for member in result.front)
    data |= {
        "values": dict(zip([g.metric for g in result.objectives.goals], trial.values, strict=True)),
        "violation": trial.violation,
        "place": better + 1,
        "of": len(known),
    }
    words = f"{trial.ncode} is trial {trial.number}: {_value(trial)}"
    if result.objectives.several:
        data["on_front"] = on_front
        words += ", on the front" if on_front else ", not on the front"
    if trial.violation > 0:
        words += ", it breaks a constraint"
    return ToolResult(f"{words}, place {better + 1} of {len(known)} measured", data)


def evaluate_ncode(workspace: Workspace, args: OneNCode) -> ToolResult:
    """Measure an architecture as a trial of the run, beyond its budget if need be."""
    stand, result = begun(workspace, args.run)
    data: dict[str, Any] = _architecture(result, args.ncode)
    if (trial := measured(result, args.ncode)) is not None:
        data |= {"trial": trial.number, "value": trial.value, "metrics": dict(trial.metrics)}
        return ToolResult(f"{args.ncode} is trial {trial.number} already: {_value(trial)}", data)
    _check_known(result, args.ncode)
    if stand.state in UNDER_WAY:
        submit(stand.files, Request(action="pick", ncode=args.ncode, extra=True))
        where = f"{args.ncode} is the next trial of {result.run}"
    else:
        if stand.run_file is None:
            raise ConfigError(f"run '{result.run}' was not started by a tool and does not run now")
        _write_extra(stand)
        submit(stand.files, Request(action="pick", ncode=args.ncode, extra=True))
        processes.start(stand.files, EXTRA_FILE)
        where = f"{args.ncode} is measured now, as one more trial of {result.run}"
    workspace.committed += 1
    return ToolResult(f"{where}; wait, then ask again for its value", data)


def evaluate_costs(workspace: Workspace, args: OneNCode) -> str | None:
    """One trial."""
    _, result = begun(workspace, args.run)
    beyond = workspace.beyond(1)
    if beyond is None or measured(result, args.ncode) is not None:
        return None
    return f"Measure {args.ncode} in run '{result.run}'? {beyond}."


def _write_extra(stand: RunStatus) -> None:
    """A run file that ends as soon as what was asked for is measured, and confirms nothing."""
    assert stand.run_file is not None
    document = stand.run_file.model_dump(mode="json", exclude_unset=True)
    document["budget"] = {"trials": max(1, stand.done)}
    document["confirm"] = {"top": 0}
    toml.write_text(stand.files.folder / EXTRA_FILE, toml.dumps(document))


def override_next(workspace: Workspace, args: OneNCode) -> ToolResult:
    """Make an architecture the run's next pick; now, or when it goes on."""
    stand, result = begun(workspace, args.run)
    data = _architecture(result, args.ncode)
    if (trial := measured(result, args.ncode)) is not None:
        raise ConfigError(f"'{args.ncode}' is trial {trial.number} already: {_value(trial)}")
    if stand.state == "finished":
        raise ConfigError(f"{stand.summary()}; take evaluate_ncode, or resume with more trials")
    _check_known(result, args.ncode)
    submit(stand.files, Request(action="pick", ncode=args.ncode))
    return ToolResult(f"{args.ncode} is the next pick of {result.run}{_when(stand)}", data)


def measured(result: Result, ncode: NCode) -> Trial | None:
    """The trial of this architecture, under whichever code. Raises NCodeError."""
    same = result.space.canonical(result.space.check(ncode))
    return next((t for t in result.trials if result.space.canonical(t.ncode) == same), None)


def _check_known(result: Result, ncode: NCode) -> None:
    """Raises NCodeError for what is known to break a constraint of the run."""
    if not result.objectives.constraints:
        return
    run_file = checked(RunFile, result.attributes.get("config", {}), f"run '{result.run}'")
    space, evaluator = from_run_file(run_file)
    known = Feasibility.of(space, evaluator, result.objectives.constraints)
    if known is not None:
        known.check(ncode)


def _architecture(result: Result, ncode: NCode) -> dict[str, Any]:
    return {"run": result.run, "ncode": ncode, "config": result.space.decode(ncode)}


def _value(trial: Trial) -> str:
    if trial.value is not None:
        return " / ".join(f"{value:.4f}" for value in trial.values)
    return trial.reason or str(trial.state)


def _when(stand: RunStatus) -> str:
    return "" if stand.state in UNDER_WAY else " once it goes on"


# -- options -----------------------------------------------------------------------------------


def prune_option(workspace: Workspace, args: OneOption) -> ToolResult:
    """Search no further architecture with this option."""
    return _request(workspace, args, "prune")


def restore_option(workspace: Workspace, args: OneOption) -> ToolResult:
    """Search this option again, whatever memory makes of it."""
    return _request(workspace, args, "widen")


def _request(workspace: Workspace, args: OneOption, action: str) -> ToolResult:
    stand, result = begun(workspace, args.run)
    place, option = _option(result, args)
    pruned = not result.subspace.mask[place, option]
    if action == "prune":
        if not pruned:
            result.subspace.restrict(place, option)  # raises SpaceError for the last one
    elif not pruned:
        raise SpaceError(f"{args.position} = {args.choice} is searched already")
    submit(
        stand.files,
        Request.model_validate({"action": action, "position": place, "option": option}),
    )
    words = "is searched no more" if action == "prune" else "is searched again"
    summary = f"{args.position} = {args.choice} {words} in {result.run}{_when(stand)}"
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
