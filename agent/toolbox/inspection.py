"""Tools that read what a run has incumbent."""

from __future__ import annotations

from dataclasses import asdict

from lm_searcher.agent.results.incumbent import best_trials
from lm_searcher.agent.results.result import Result
from lm_searcher.agent.results.summary import bounds, front_line, nothing
from lm_searcher.agent.toolbox.arguments import Best, OneRun
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.run_status import RunStatus, read_status
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.errors import StoreError


def load_run(workspace: Workspace, run: str | None) -> tuple[RunStatus, Result]:
    """The status of a run and its result. Raises StoreError if the search has not begun."""
    status = read_status(workspace.files(run))
    if status.result is None:
        raise StoreError(f"{status.summary()}; there are no trials yet")
    return status, status.result


def best(workspace: Workspace, args: Best) -> ToolResult:
    """The incumbent with its configuration and spread, and the best trials."""
    _, result = load_run(workspace, args.run)
    if result.objectives.several:
        return _front(result, args.top)
    incumbent = result.incumbent
    if incumbent is None:
        summary = f"{result.run}: {nothing(result)}"
        return ToolResult(summary, {"run": result.run, "incumbent": None})
    trials = best_trials(result.trials, result.sign, args.top)
    seeds = f"mean of {incumbent.seeds} fresh seeds" if incumbent.seeds else "not confirmed"
    spread = f" ± {incumbent.spread:.4f}" if incumbent.spread else ""
    summary = (
        f"{result.run}: best {result.metric} {incumbent.value:.4f}{spread} ({seeds}), "
        f"NCode {incumbent.ncode}: {result.space.description(incumbent.ncode)}"
    )
    constraints = bounds(result, incumbent.metrics)
    data = {
        "run": result.run,
        "metric": result.metric,
        "direction": result.direction,
        "incumbent": asdict(incumbent) | {"config": result.best_config},
        **({"constraints": constraints} if constraints else {}),
        "trials": [
            {"trial": t.number, "ncode": t.ncode, "value": t.value, "metrics": dict(t.metrics)}
            for t in trials
        ],
    }
    return ToolResult(summary, data)


def _front(result: Result, top: int) -> ToolResult:
    """The front of a run with several objectives; at most `top` members are listed."""
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


def report(workspace: Workspace, args: OneRun) -> ToolResult:
    """Write the run's HTML page into its folder."""
    from lm_searcher.agent.results.report import write_report  # loads plotly

    _, result = load_run(workspace, args.run)
    page = workspace.inside(result.run, "report.html")
    write_report(result, page)
    return ToolResult(f"wrote {page}", {"run": result.run, "report": str(page)})
