"""A run in words, for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lm_searcher.agent.results.incumbent import Incumbent, at_full
from lm_searcher.agent.results.result import Result
from lm_searcher.spaces.history import TrialState

SHOWN = 20
"""Members of a front that the terminal lists; JSON has them all."""


def print_summary(console: Console, result: Result, resume: str) -> None:
    """What was found, how sure it is, and how to go on."""
    states = [t.state for t in result.trials]
    failed = states.count(TrialState.FAIL)
    table = Table(
        show_header=False, title=f"run {result.run}: {result.state}", title_justify="left"
    )
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    if result.stop:
        table.add_row("ended", Text(str(result.stop)))
    done = sum(state.finished for state in states)
    table.add_row("trials", f"{done} ({failed} failed, {stopped_early(result)})")
    if (best := result.incumbent) is None:
        name = "front" if result.objectives.several else "incumbent"
        table.add_row(name, Text(front_line(result) or nothing(result)))
    else:
        table.add_row("incumbent", f"{best.ncode}  (trial {best.number})")
        table.add_row("architecture", Text(result.space.description(best.ncode)))
        figure = f"{measured(best.value, best.spread)}  ({origin(result, best)})"
        table.add_row(result.metric, figure)
        for name, value in best.metrics.items():
            if name != result.metric:
                table.add_row(name, measured(value, best.spreads.get(name)))
        for bound, line in bounds(result, best.metrics).items():
            table.add_row(Text(bound), line)
    table.add_row("space", f"{result.space.name}, {result.space.size:,} architectures")
    if result.decisions:
        kept = f"{result.subspace.size:,} architectures after {len(result.decisions)} decisions"
        table.add_row("subspace", kept)
    if result.usage.decisions:
        table.add_row("model", Text(str(result.usage)))
    table.add_row("store", Text(result.store))
    table.add_row("continue", Text(resume))
    console.print(table)
    if result.objectives.several and result.front:
        _print_front(console, result)
    for line in failure_lines(result):
        console.print(Text(line, style="red"))


def _print_front(console: Console, result: Result) -> None:
    header, rows = front_table(result)
    table = Table(title="Pareto front", title_justify="left")
    for name in header:
        table.add_column(Text(name), overflow="fold")
    for row in rows[:SHOWN]:
        table.add_row(*map(Text, row))
    console.print(table)
    if len(rows) > SHOWN:
        console.print(f"and {len(rows) - SHOWN} more, which --json lists")


def front_table(result: Result) -> tuple[list[str], list[list[str]]]:
    """The front's header and rows: each objective, and the metrics that constraints bound; where
    a member was confirmed, the means over fresh seeds as well."""
    goals = [f"{g.metric} ({g.direction})" for g in result.objectives.goals]
    goal_names = [goal.metric for goal in result.objectives.goals]
    bounded = [c for c in result.objectives.constraints if c.metric not in goal_names]
    confirmed = any(member.seeds for member in result.front)
    header = ["NCode", "trial", *goals, *map(str, bounded)]
    header += ["with fresh seeds"] * confirmed
    rows = []
    for member in result.front:
        row = [member.ncode, str(member.number)]
        row += [f"{value:.6g}" for value in member.values.values()]
        row += [f"{member.metrics[c.metric]:.6g}" for c in bounded]
        if confirmed:
            fresh = member.confirmed
            means = [
                measured(fresh[name], member.spreads.get(name))
                for name in member.values
                if name in fresh
            ]
            row.append(", ".join(means))
        rows.append(row)
    return header, rows


def front_line(result: Result) -> str:
    """A front in one line; empty where there is none."""
    members = result.front if result.objectives.several else []
    if not members:
        return ""
    ranges = []
    for goal in result.objectives.goals:
        values = [member.values[goal.metric] for member in members]
        low, high = f"{min(values):.6g}", f"{max(values):.6g}"
        ranges.append(f"{goal.metric} {low}" + f" to {high}" * (low != high))
    plural = "s" if len(members) > 1 else ""
    return f"{len(members)} architecture{plural}, {', '.join(ranges)}"


def nothing(result: Result) -> str:
    """Why there is neither an incumbent nor a front."""
    nearest = result.nearest
    if nearest is None:
        return "none: no trial has completed"
    wanted = " and ".join(map(str, result.objectives.constraints))
    costs = [f"{c.metric} {nearest.metrics[c.metric]:.6g}" for c in result.objectives.constraints]
    return (
        f"none: no trial satisfies {wanted}; trial {nearest.number} ({nearest.ncode}) comes "
        f"nearest, with {', '.join(costs)}"
    )


def bounds(result: Result, metrics: Mapping[str, float]) -> dict[str, str]:
    """Each constraint, and whether some metrics keep it."""
    lines = {}
    for constraint in result.objectives.constraints:
        value = metrics[constraint.metric]
        kept = "kept" if constraint.violation(np.array(value)) <= 0 else "not kept"
        lines[str(constraint)] = f"{kept}: {value:.6g}"
    return lines


def origin(result: Result, best: Incumbent) -> str:
    """Where the incumbent's value comes from."""
    if not best.seeds:
        return "the trial's own, not confirmed"
    return f"mean of {best.seeds} fresh seeds{at_full(result.attributes)}"


def stopped_early(result: Result) -> str:
    """How many trials the pruner stopped, and after how many reports."""
    pruned = Counter(len(t.curve) for t in result.trials if t.state is TrialState.PRUNED)
    after = ", ".join(f"{count} after {length}" for length, count in sorted(pruned.items()))
    return f"{pruned.total()} stopped early" + (f": {after}" if len(pruned) else "")


def measured(value: float, spread: float | None) -> str:
    """A mean with its standard deviation, where there is one."""
    return f"{value:.4f}" + (f" ± {spread:.4f}" if spread else "")


def failure_lines(result: Result, most: int = 5) -> list[str]:
    """The commonest reasons of failed trials, with how often each came."""
    reasons: dict[str, int] = {}
    for trial in result.failures:
        reasons[trial.reason or "unknown"] = reasons.get(trial.reason or "unknown", 0) + 1
    common = sorted(reasons.items(), key=lambda item: -item[1])
    lines = [f"{count} failed: {reason}" for reason, count in common[:most]]
    return lines + ([f"and {len(common) - most} other reasons"] if len(common) > most else [])
