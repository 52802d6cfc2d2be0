"""A run in words, for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lm_searcher.agent.show import Result
from lm_searcher.spaces.trial import TrialState


def print_summary(console: Console, result: Result, resume: str) -> None:
    """What was found, how sure it is, and how to go on."""
    states = [t.state for t in result.trials]
    failed, pruned = states.count(TrialState.FAIL), states.count(TrialState.PRUNED)
    table = Table(
        show_header=False, title=f"run {result.run}: {result.state}", title_justify="left"
    )
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    if result.stop:
        table.add_row("ended", Text(result.stop))
    done = sum(state.finished for state in states)
    table.add_row("trials", f"{done} ({failed} failed, {pruned} stopped early)")
    best = result.incumbent
    if best is None:
        table.add_row("incumbent", "none: no trial has completed")
    else:
        table.add_row("incumbent", f"{best.ncode}  (trial {best.number})")
        table.add_row("architecture", Text(result.space.description(best.ncode)))
        seeds = (
            f"mean of {best.seeds} fresh seeds" if best.seeds else "the trial's own, not confirmed"
        )
        table.add_row(result.metric, f"{measured(best.value, best.spread)}  ({seeds})")
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
