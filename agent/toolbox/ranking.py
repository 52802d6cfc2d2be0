"""The tool that ranks one architecture, and what tools about architectures share."""

from __future__ import annotations

from typing import Any

import numpy as np

from lm_searcher.agent.loop.preview import preview
from lm_searcher.agent.loop.stored_problem import stored_problem
from lm_searcher.agent.problem import Problem
from lm_searcher.agent.results.result import Result
from lm_searcher.agent.toolbox.arguments import OneNCode
from lm_searcher.agent.toolbox.inspection import load_run
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.run_status import RunStatus
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.errors import RankerError
from lm_searcher.spaces.history import Trial
from lm_searcher.spaces.ncode import NCode
from lm_searcher.tools.rankers import RANKERS


def rank_ncode(workspace: Workspace, args: OneNCode) -> ToolResult:
    """The place of an architecture in the run's order of preference, and the run's next picks."""
    status, result = load_run(workspace, args.run)
    data: dict[str, Any] = architecture(result, args.ncode)
    if (trial := measured_trial(result, args.ncode)) is not None:
        values = [t.value for t in result.trials if t.value is not None]
        better = sum(result.sign * v > result.sign * (trial.value or 0.0) for v in values)
        data |= {"trial": trial.number, "value": trial.value, "reason": trial.reason}
        if trial.value is not None and not result.objectives.plain:
            return _measured_place(result, trial, data)
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
    problem = stored_problem(status.files, result.attributes)
    name = problem.settings.ranker.name
    if name not in RANKERS:
        raise RankerError(
            f"ranker '{name}' asks a model for every order; rank_ncode works for "
            "runs of " + ", ".join(RANKERS)
        )
    return problem


def _measured_place(result: Result, trial: Trial, data: dict[str, Any]) -> ToolResult:
    """The place of a measured architecture among all trials with values.

    For runs with several objectives or constraints.
    """
    valued = [t for t in result.trials if t.value is not None]
    scores = result.objectives.scores(*result.objectives.arrays(valued))
    better = int(np.sum(scores > scores[valued.index(trial)]))
    on_front = any(member.number == trial.number for member in result.front)
    data |= {
        "values": dict(zip([g.metric for g in result.objectives.goals], trial.values, strict=True)),
        "violation": trial.violation,
        "place": better + 1,
        "of": len(valued),
    }
    words = f"{trial.ncode} is trial {trial.number}: {value_text(trial)}"
    if result.objectives.several:
        data["on_front"] = on_front
        words += ", on the front" if on_front else ", not on the front"
    if trial.violation > 0:
        words += ", it breaks a constraint"
    return ToolResult(f"{words}, place {better + 1} of {len(valued)} measured", data)


def measured_trial(result: Result, ncode: NCode) -> Trial | None:
    """The trial of this architecture or an equivalent one; None if there is none.

    Raises NCodeError for a code that is not of the run's space.
    """
    same = result.space.canonical(result.space.check(ncode))
    return next((t for t in result.trials if result.space.canonical(t.ncode) == same), None)


def architecture(result: Result, ncode: NCode) -> dict[str, Any]:
    """The data that every tool about an architecture returns."""
    return {"run": result.run, "ncode": ncode, "config": result.space.decode(ncode)}


def value_text(trial: Trial) -> str:
    """A trial's values, or why it has none."""
    if trial.value is not None:
        return " / ".join(f"{value:.4f}" for value in trial.values)
    return trial.reason or str(trial.state)
