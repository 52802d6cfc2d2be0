"""The tables of a run's report, as the template fills them in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lm_searcher.agent.results.result import Result
from lm_searcher.agent.results.summary import (
    bounds,
    failure_lines,
    front_line,
    measured,
    nothing,
    origin,
)
from lm_searcher.agent.study.records import USER

Rows = Sequence[Sequence[object]]


@dataclass(frozen=True)
class Section:
    """One section; only what is given is shown, in this order."""

    title: str
    figures: Sequence[str] = ()
    """HTML made by plotly."""
    lines: Sequence[str] = ()
    header: Sequence[str] = ()
    rows: Rows = ()
    note: str = ""


def overview(result: Result) -> list[tuple[str, object]]:
    """The table at the top of the page: the state and the incumbent or the front."""
    stop = f": {result.stop}" if result.stop else ""
    rows: list[tuple[str, object]] = [("state", result.state + stop)]
    if (best := result.incumbent) is None:
        name = "front" if result.objectives.several else "incumbent"
        rows.append((name, front_line(result) or nothing(result)))
    else:
        rows.append(("incumbent", f"{best.ncode} (trial {best.number})"))
        rows.append(("architecture", result.space.description(best.ncode)))
        value = measured(best.value, best.spread)
        rows.append((result.metric, f"{value} ({origin(result, best)})"))
        rows += [
            (name, measured(value, best.spreads.get(name)))
            for name, value in best.metrics.items()
            if name != result.metric
        ]
        rows += bounds(result, best.metrics).items()
    seconds = sum(t.seconds or 0.0 for t in result.trials)
    rows.append(("trials", f"{len(result.trials)}, {seconds:,.0f} s of evaluation"))
    size = f"{result.space.size:,} architectures, {result.subspace.size:,} after pruning"
    rows.append(("space", f"{result.space.name}: {size}"))
    return rows


def decisions(result: Result) -> Section:
    """Every prune and widening with its evidence."""
    title = "What was pruned, and when"
    if not result.decisions:
        return Section(title, note="Nothing was pruned.")
    rows = [
        [d["trial"], d["action"], d["position"], d["choice"], _evidence(d)]
        for d in result.decisions
    ]
    header = ["after trial", "action", "position", "option", "evidence"]
    return Section(title, header=header, rows=rows)


def _evidence(decision: dict[str, Any]) -> str:
    if evidence := decision.get("evidence"):
        return (
            f"mean rank at most {evidence['upper']} ({evidence['trials']} trials), the best "
            f"option's at least {evidence['best_lower']} ({evidence['best_trials']} trials)"
        )
    return "requested by a user" if decision.get("by") == USER else "no new best for long"


def confirmation(result: Result) -> Section:
    """Each confirmed trial's own values beside those with fresh seeds."""
    confirmed = result.records.confirmed()
    if not confirmed:
        return Section("Confirmation", note="No trial was confirmed with fresh seeds.")
    names = [goal.metric for goal in result.objectives.goals]
    rows = []
    for number, entries in confirmed.items():
        trial = result.trials[number]
        values = [
            f"failed: {entry.reason}"
            if entry.metrics is None
            else _values([entry.metrics[name] for name in names])
            for entry in entries
        ]
        rows.append([number, trial.ncode, _values(trial.values), ", ".join(values)])
    header = ["trial", "NCode", "in the search", "with fresh seeds"]
    return Section("Confirmation", header=header, rows=rows)


def _values(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.4f}" for value in values)


def failures(result: Result) -> Section:
    """The failed trials, the commonest reasons first."""
    if not result.failures:
        return Section("Failures", note="No trial failed.")
    rows = [[t.number, t.ncode, t.reason] for t in result.failures]
    header = ["trial", "NCode", "reason"]
    return Section("Failures", lines=failure_lines(result), header=header, rows=rows)


def usage(result: Result) -> Section:
    """The language model's usage, and the decisions that its fallback made."""
    rows = [
        [t.number, t.usage.asks, t.usage.tokens, t.usage.reason]
        for t in result.trials
        if t.usage is not None and t.usage.fallbacks
    ]
    header = ["picked by the fallback", "asks", "tokens", "reason"]
    lines = [str(result.usage)]
    return Section("What the model was asked", lines=lines, header=header, rows=rows)
