"""The tool that compares runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lm_searcher.agent.results.front import hypervolumes
from lm_searcher.agent.results.result import Result, read_run
from lm_searcher.agent.toolbox.arguments import SeveralRuns
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.objectives import reference_of


def compare_runs(workspace: Workspace, args: SeveralRuns) -> ToolResult:
    """What runs found after the same number of trials, and whether they are comparable."""
    results = [read_run(workspace.files(name)) for name in dict.fromkeys(args.runs)]
    rows = [_row(result) for result in results]
    differ = [
        key
        for key in ("space", "objective", "evaluator")
        if any(r.attributes.get(key) != results[0].attributes.get(key) for r in results)
    ]
    least = min(sum(t.state.finished for t in r.trials) for r in results)
    curves = _curves(results) if not differ else [r.best_so_far() for r in results]
    for row, curve in zip(rows, curves, strict=True):
        row["best_after_as_many_trials"] = curve[least - 1] if least else None
    data = {"runs": rows, "as_many_trials": least, "comparable": not differ, "differ_in": differ}
    if differ:
        return ToolResult(f"the runs differ in {', '.join(differ)}: no fair comparison", data)
    return ToolResult(_verdict(rows, results, least), data)


def _curves(results: Sequence[Result]) -> list[list[float | None]]:
    """Per run the best value after each trial, or with several objectives the hypervolume.

    All runs share one reference point.
    """
    objectives = results[0].objectives
    if not objectives.several:
        return [result.best_so_far() for result in results]
    values = np.concatenate([objectives.arrays(result.trials)[0] for result in results])
    if np.isnan(values).any(axis=1).all():
        return [[None] * len(result.trials) for result in results]
    reference = reference_of(values)
    return [list[float | None](hypervolumes(r.trials, objectives, reference)) for r in results]


def _row(result: Result) -> dict[str, Any]:
    best = result.incumbent
    config = result.attributes.get("config", {})
    return {
        "run": result.run,
        "state": result.state,
        "space": result.space.name,
        "ranker": config.get("ranker", {}).get("name"),
        "seed": config.get("run", {}).get("seed"),
        "metric": "hypervolume" if result.objectives.several else result.metric,
        "trials": sum(t.state.finished for t in result.trials),
        "failed": len(result.failures),
        "best": best and best.value,
        "spread": best and best.spread,
        "fresh_seeds": best and best.seeds,
        "ncode": best and best.ncode,
        "seconds": round(sum(t.seconds or 0.0 for t in result.trials), 1),
        **({"front": len(result.front)} if result.objectives.several else {}),
    }


def _verdict(rows: Sequence[dict[str, Any]], results: Sequence[Result], least: int) -> str:
    found = [row for row in rows if row["best_after_as_many_trials"] is not None]
    if not found:
        return "no run has a completed trial yet"
    sign = 1.0 if results[0].objectives.several else results[0].sign
    value = max(found, key=lambda row: sign * row["best_after_as_many_trials"])[
        "best_after_as_many_trials"
    ]
    names = [row["run"] for row in found if row["best_after_as_many_trials"] == value]
    verb = "is best" if len(names) == 1 else "are best alike"
    return f"after {least} trials each, {', '.join(names)} {verb}: {rows[0]['metric']} {value:.4f}"
