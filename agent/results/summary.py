"""A run's result in words, for the terminal, the report and the tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lm_searcher.agent.results.incumbent import Incumbent
from lm_searcher.agent.results.result import Result
from lm_searcher.spaces.history import Trial, TrialState

SHOWN = 20
"""The most members of a front that the terminal lists; JSON has them all."""

RUNNING_SHOWN = 8
"""The most running trials that the terminal lists."""


def print_summary(console: Console, result: Result, resume: str) -> None:
    """Print the result and the command `resume` that continues the run."""
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
    if running := [t for t in result.trials if t.state is TrialState.RUNNING]:
        table.add_row("running", Text(where_they_run(running)))
    if (best := result.incumbent) is None:
        name = "front" if result.objectives.several else "incumbent"
        table.add_row(name, Text(front_line(result) or nothing(result)))
    else:
        table.add_row("incumbent", f"{best.ncode}  (trial {best.number})")
        table.add_row("architecture", Text(result.space.description(best.ncode)))
        value = measured(best.value, best.spread)
        table.add_row(result.metric, f"{value}  ({origin(result, best)})")
        for name, mean in best.metrics.items():
            if name != result.metric:
                table.add_row(name, measured(mean, best.spreads.get(name)))
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
    """The front as a header and rows: objectives, constrained metrics, and means over fresh seeds
    if any member was confirmed."""
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
    """The size and the ranges of the front in one line; empty if there is no front."""
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
    """Why the run has neither an incumbent nor a front."""
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
    """Each constraint and whether these metrics keep it, as text."""
    lines = {}
    for constraint in result.objectives.constraints:
        value = metrics[constraint.metric]
        kept = "kept" if constraint.violation(np.array(value)) <= 0 else "not kept"
        lines[str(constraint)] = f"{kept}: {value:.6g}"
    return lines


def origin(result: Result, best: Incumbent) -> str:
    """What the incumbent's value is: a mean over fresh seeds, or the trial's own."""
    if not best.seeds:
        return "the trial's own, not confirmed"
    settings = ", ".join(f"{k} = {v:g}" for k, v in result.records.full.items())
    return f"mean of {best.seeds} fresh seeds" + (f" at {settings}" if settings else "")


def stopped_early(result: Result) -> str:
    """How many trials the pruner stopped, by number of reports."""
    pruned = Counter(len(t.curve) for t in result.trials if t.state is TrialState.PRUNED)
    after = ", ".join(f"{count} after {length}" for length, count in sorted(pruned.items()))
    return f"{pruned.total()} stopped early" + (f": {after}" if len(pruned) else "")


def where_they_run(running: Iterable[Trial], most: int = RUNNING_SHOWN) -> str:
    """The running trials, each with its place where there is more than one; the first `most` of
    them, and how many more there are."""
    trials = sorted(running, key=lambda trial: trial.number)
    shown = [f"{t.ncode} ({t.place})" if t.place else t.ncode for t in trials[:most]]
    more = [f"and {len(trials) - most} more"] if len(trials) > most else []
    return ", ".join(shown + more)


def measured(value: float, spread: float | None) -> str:
    """A value, with its standard deviation if there is one."""
    return f"{value:.4f}" + (f" ± {spread:.4f}" if spread else "")


def failure_lines(result: Result, most: int = 5) -> list[str]:
    """The `most` commonest reasons of failed trials with their counts, a line each."""
    reasons = Counter(trial.reason or "unknown" for trial in result.failures)
    lines = [f"{count} failed: {reason}" for reason, count in reasons.most_common(most)]
    return lines + ([f"and {len(reasons) - most} other reasons"] if len(reasons) > most else [])
