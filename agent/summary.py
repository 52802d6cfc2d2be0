"""A run in words, for the terminal."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lm_searcher.agent.confirm import Incumbent, at_full
from lm_searcher.agent.show import Result
from lm_searcher.spaces.trial import TrialState


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
        table.add_row("ended", Text(result.stop))
    done = sum(state.finished for state in states)
    table.add_row("trials", f"{done} ({failed} failed, {stopped_early(result)})")
    best = result.incumbent
    if best is None:
        table.add_row("incumbent", "none: no trial has completed")
    else:
        table.add_row("incumbent", f"{best.ncode}  (trial {best.number})")
        table.add_row("architecture", Text(result.space.description(best.ncode)))
        figure = f"{measured(best.value, best.spread)}  ({origin(result, best)})"
        table.add_row(result.metric, figure)
        for name, value in best.metrics.items():
            if name != result.metric:
                table.add_row(name, measured(value, best.spreads.get(name)))
    table.add_row("space", f"{result.space.name}, {result.space.size:,} architectures")
    if result.decisions:
        kept = f"{result.subspace.size:,} architectures after {len(result.decisions)} decisions"
        table.add_row("subspace", kept)
    if result.account.decisions:
        table.add_row("model", Text(str(result.account)))
    table.add_row("store", Text(result.store))
    table.add_row("continue", Text(resume))
    console.print(table)
    for line in failure_lines(result):
        console.print(Text(line, style="red"))


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
