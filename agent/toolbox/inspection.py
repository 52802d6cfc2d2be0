"""Tools that read what runs have found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from lm_searcher.agent.loop.memory import Evidence, outcome_ranks
from lm_searcher.agent.results.front import hypervolumes
from lm_searcher.agent.results.incumbent import best_trials
from lm_searcher.agent.results.result import Result, read_run
from lm_searcher.agent.results.summary import bounds, failure_lines, front_line, nothing
from lm_searcher.agent.toolbox.arguments import Best, OneRun, SeveralRuns
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.run_status import RunStatus, standing
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.errors import StoreError
from lm_searcher.spaces.objectives import reference_of

WIDTH = 2.5
"""Half of an interval of `explain`, in standard errors, as memory's by default."""


def begun(workspace: Workspace, run: str | None) -> tuple[RunStatus, Result]:
    """A run and what its store has. Raises StoreError for one that has not begun."""
    stand = standing(workspace.files(run))
    if stand.result is None:
        raise StoreError(f"{stand.summary()}; there are no trials yet")
    return stand, stand.result


def best(workspace: Workspace, args: Best) -> ToolResult:
    """The incumbent, decoded and with its spread, and the best trials."""
    _, result = begun(workspace, args.run)
    if result.objectives.several:
        return _front(result, args.top)
    found = result.incumbent
    if found is None:
        summary = f"{result.run}: {nothing(result)}"
        return ToolResult(summary, {"run": result.run, "incumbent": None})
    trials = best_trials(result.trials, result.sign, args.top)
    seeds = f"mean of {found.seeds} fresh seeds" if found.seeds else "not confirmed"
    spread = f" ± {found.spread:.4f}" if found.spread else ""
    summary = (
        f"{result.run}: best {result.metric} {found.value:.4f}{spread} ({seeds}), "
        f"NCode {found.ncode}: {result.space.description(found.ncode)}"
    )
    data = {
        "run": result.run,
        "metric": result.metric,
        "direction": result.direction,
        "incumbent": asdict(found) | {"config": result.best_config},
        **({"constraints": bounds(result, found.metrics)} if result.objectives.constraints else {}),
        "trials": [
            {"trial": t.number, "ncode": t.ncode, "value": t.value, "metrics": dict(t.metrics)}
            for t in trials
        ],
    }
    return ToolResult(summary, data)


def _front(result: Result, top: int) -> ToolResult:
    """Several objectives: the front, of which `top` members are given."""
    front = result.front
    data = {
        "run": result.run,
        **result.objectives.to_json(),
        "front_size": len(front),
        "hypervolume": result.hypervolumes()[-1] if result.trials else 0.0,
        "front": [m.to_json() | {"config": result.space.decode(m.ncode)} for m in front[:top]],
    }
    words = f"Pareto front of {front_line(result)}" if front else nothing(result)
    more = f"; the first {top} by {result.metric} are given" if len(front) > top else ""
    return ToolResult(f"{result.run}: {words}{more}", data)


def explain(workspace: Workspace, args: OneRun) -> ToolResult:
    """Which positions mattered, each option's evidence, and every prune with its reason."""
    _, result = begun(workspace, args.run)
    positions = effects(result)
    if not positions:
        return ToolResult(f"{result.run}: no trial has finished yet", {"run": result.run})
    most = positions[0]
    good = most["options"][0]
    summary = (
        f"{result.run}: {most['position']} mattered most "
        f"({most['share']:.0%} of the spread of ranks), best with {good['choice']}; "
        f"{len(result.decisions)} decisions about options, "
        f"{result.subspace.size:,} of {result.space.size:,} architectures still searched"
    )
    refused = [v for k, v in sorted(result.attributes.items()) if _refused(v)]
    return ToolResult(
        summary,
        {
            "run": result.run,
            "trials": sum(t.state.finished for t in result.trials),
            "reading": "mean_rank: mean outcome rank of the trials with the option, 0 worst to 1 "
            "best, with an interval of 2.5 standard errors; few trials are weak evidence",
            "positions": positions,
            "decisions": result.decisions,
            "refused_requests": refused,
            "failures": failure_lines(result),
        },
    )


def _refused(value: object) -> bool:
    return isinstance(value, dict) and "refused" in value


def effects(result: Result) -> list[dict[str, Any]]:
    """Per position, the one that explains most first: its share of the variance of outcome
    ranks, and its tried options, best first. Empty before a trial has finished."""
    history = result.objectives.history(result.space, result.trials)
    known = np.flatnonzero(~history.pending)
    if not len(known):
        return []
    table = Evidence.of(history, int(result.space.cardinalities.max()), WIDTH)
    ranks = outcome_ranks(history, known)
    total = float(np.sum((ranks - ranks.mean()) ** 2))
    rows = []
    for place, position in enumerate(result.space.positions):
        tried = np.flatnonzero(table.trials[place])
        between = float(
            np.sum(table.trials[place, tried] * (table.mean[place, tried] - ranks.mean()) ** 2)
        )
        order = tried[np.argsort(-table.mean[place, tried], kind="stable")]
        options = [
            {
                "choice": position.choices[o],
                "trials": int(table.trials[place, o]),
                "mean_rank": round(float(table.mean[place, o]), 3),
                "interval": [
                    round(float(table.lower[place, o]), 3),
                    round(float(table.upper[place, o]), 3),
                ],
                "searched": bool(result.subspace.mask[place, o]),
            }
            for o in order
        ]
        untried = [c for o, c in enumerate(position.choices) if o not in tried]
        share = round(_adjusted(between / total, len(known), len(tried)), 3) if total else 0.0
        rows.append(
            {"position": position.name, "share": share, "options": options, "untried": untried}
        )
    return sorted(rows, key=lambda row: -row["share"])


def _adjusted(share: float, trials: int, options: int) -> float:
    """The share less what as many options would explain of noise; 0 if there is no telling."""
    if trials <= options:
        return 0.0
    return max(0.0, 1 - (1 - share) * (trials - 1) / (trials - options))


def compare_runs(workspace: Workspace, args: SeveralRuns) -> ToolResult:
    """Runs side by side, and whether their values may be compared."""
    results = [read_run(workspace.files(name)) for name in dict.fromkeys(args.runs)]
    rows = [_row(result) for result in results]
    differ = [
        key
        for key in ("space", "objective", "evaluator")
        if any(r.attributes.get(key) != results[0].attributes.get(key) for r in results)
    ]
    least = min(sum(t.state.finished for t in r.trials) for r in results)
    found = _so_far(results) if not differ else [r.best_so_far() for r in results]
    for row, so_far in zip(rows, found, strict=True):
        row["best_after_as_many_trials"] = so_far[least - 1] if least else None
    data = {"runs": rows, "as_many_trials": least, "comparable": not differ, "differ_in": differ}
    if differ:
        return ToolResult(f"the runs differ in {', '.join(differ)}: no fair comparison", data)
    return ToolResult(_verdict(rows, results, least), data)


def _so_far(results: Sequence[Result]) -> list[list[float | None]]:
    """The best after each trial; of several objectives the hypervolume, above a reference that is
    the same for all runs."""
    objectives = results[0].objectives
    if not objectives.several:
        return [result.best_so_far() for result in results]
    values = np.concatenate([objectives.arrays(result.trials)[0] for result in results])
    if np.isnan(values).any(axis=1).all():
        return [[None] * len(result.trials) for result in results]
    reference = reference_of(values)
    return [list[float | None](hypervolumes(r.trials, objectives, reference)) for r in results]


def _row(result: Result) -> dict[str, Any]:
    found = result.incumbent
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
        "best": found and found.value,
        "spread": found and found.spread,
        "fresh_seeds": found and found.seeds,
        "ncode": found and found.ncode,
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


def report(workspace: Workspace, args: OneRun) -> ToolResult:
    """Write the run's HTML page into its folder."""
    from lm_searcher.agent.results.report import write_report  # loads plotly

    _, result = begun(workspace, args.run)
    page = workspace.inside(result.run, "report.html")
    write_report(result, page)
    return ToolResult(f"wrote {page}", {"run": result.run, "report": str(page)})
