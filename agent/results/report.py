"""A run as one HTML page that needs nothing else: plotly's figures, its script inlined."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from lm_searcher.agent.loop.memory import Evidence
from lm_searcher.agent.results.report_front import front_figure, hypervolume_figure, parallel_figure
from lm_searcher.agent.results.result import Result
from lm_searcher.agent.results.summary import (
    bounds,
    failure_lines,
    front_line,
    front_table,
    measured,
    nothing,
    origin,
)
from lm_searcher.agent.study.records import USER
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.history import TrialState
from lm_searcher.spaces.ncode import DIGITS
from lm_searcher.tools.files import write_atomically

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2em auto; padding: 0 1em;
       color: #222; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; } td, th { padding: .25em .8em .25em 0; text-align: left;
       vertical-align: top; border-bottom: 1px solid #e5e5e5; }
code { font-size: .95em; overflow-wrap: anywhere; } .quiet { color: #666; }
"""


def write_report(result: Result, output: Path) -> None:
    """Write the page, whole or not at all. Raises ConfigError if the place cannot be written."""
    page = render(result)
    try:
        write_atomically(output, page)
    except OSError as error:
        raise ConfigError(f"report '{output}': {error.strerror}") from None


def render(result: Result) -> str:
    """The page's HTML."""
    found = [
        ("Best so far", _best_so_far(result)),
        (f"{result.metric} against parameters", _against_cost(result)),
    ]
    if result.objectives.several:
        found = [("Pareto front", _front(result)), ("Hypervolume", _hypervolume(result))]
    sections = [
        *found,
        ("What the options did", _effects(result)),
        ("What was pruned, and when", _decisions(result)),
        ("Confirmation", _confirmation(result)),
        ("Failures", _failures(result)),
    ]
    if result.usage.decisions:
        sections.append(("What the model was asked", _account(result)))
    body = "".join(f"<h2>{html.escape(title)}</h2>{content}" for title, content in sections)
    title = html.escape(f"Run {result.run}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body><h1>{title}</h1>{_overview(result)}{body}</body></html>"
    )


def _figure(figure: go.Figure, height: int = 380) -> str:
    figure.update_layout(
        template="plotly_white", height=height, margin={"l": 60, "r": 20, "t": 20, "b": 50}
    )
    drawn: str = figure.to_html(full_html=False, include_plotlyjs=False)
    return drawn


def _table(header: list[str], rows: list[list[object]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    lines = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{lines}</table>"


def _quiet(text: str) -> str:
    return f'<p class="quiet">{html.escape(text)}</p>'


def _overview(result: Result) -> str:
    rows: list[list[object]] = [["state", result.state + (f": {result.stop}" * bool(result.stop))]]
    if (best := result.incumbent) is None:
        name = "front" if result.objectives.several else "incumbent"
        rows.append([name, front_line(result) or nothing(result)])
    else:
        rows += [
            ["incumbent", f"{best.ncode} (trial {best.number})"],
            ["architecture", result.space.description(best.ncode)],
        ]
        rows.append(
            [result.metric, f"{measured(best.value, best.spread)} ({origin(result, best)})"]
        )
        rows += [
            [name, measured(value, best.spreads.get(name))]
            for name, value in best.metrics.items()
            if name != result.metric
        ]
        rows += [[bound, line] for bound, line in bounds(result, best.metrics).items()]
    seconds = sum(t.seconds or 0.0 for t in result.trials)
    rows.append(["trials", f"{len(result.trials)}, {seconds:,.0f} s of evaluation"])
    size = f"{result.space.size:,} architectures, {result.subspace.size:,} after pruning"
    rows.append(["space", f"{result.space.name}: {size}"])
    return _table(["", ""], rows)


def _front(result: Result) -> str:
    figure = front_figure(result)
    if figure is None:
        return _quiet("No trial has values yet.")
    drawn = _figure(figure, 460)
    if len(result.objectives.goals) > 2 and (parallel := parallel_figure(result)) is not None:
        drawn += _figure(parallel)
    if not result.front:
        return drawn + _quiet(nothing(result))
    header, rows = front_table(result)
    return drawn + _table(header, [list[object](row) for row in rows])


def _hypervolume(result: Result) -> str:
    legend = (
        "What the front dominates, in the product of the objectives' units, above a point that is "
        "a tenth of the range worse than the worst that was measured of each objective."
    )
    return _figure(hypervolume_figure(result)) + _quiet(legend)


def _best_so_far(result: Result) -> str:
    valued = [t for t in result.trials if t.value is not None]
    if not valued:
        return _quiet("No trial has a value yet.")
    figure = go.Figure()
    broken = {t.number for t in valued if t.violation > 0}
    for state, name, symbol in (
        (TrialState.COMPLETE, "trial", "circle"),
        (TrialState.PRUNED, "stopped early", "x"),
        (None, "breaks a constraint", "x-open"),
    ):
        some = [t for t in valued if (t.number in broken) == (state is None)]
        some = [t for t in some if state in (t.state, None)]
        if some:
            figure.add_scatter(
                x=[t.number for t in some],
                y=[t.value for t in some],
                text=[f"{t.ncode}, {len(t.curve)} reports" if t.curve else t.ncode for t in some],
                mode="markers",
                name=name,
                marker={"symbol": symbol, "opacity": 0.6},
            )
    figure.add_scatter(
        x=[t.number for t in result.trials],
        y=result.best_so_far(),
        mode="lines",
        line={"shape": "hv"},
        name="best so far",
    )
    figure.update_layout(xaxis_title="trial", yaxis_title=result.metric)
    return _figure(figure)


def _against_cost(result: Result) -> str:
    some = [t for t in result.trials if t.value is not None and "params_m" in t.metrics]
    if not some:
        return _quiet("The evaluator measured no params_m (millions of parameters).")
    figure = go.Figure()
    figure.add_scatter(
        x=[t.metrics["params_m"] for t in some],
        y=[t.value for t in some],
        text=[t.ncode for t in some],
        mode="markers",
        name="trial",
        marker={"color": [t.number for t in some], "colorbar": {"title": "trial"}},
    )
    figure.update_layout(xaxis_title="parameters (millions)", yaxis_title=result.metric)
    return _figure(figure)


def _effects(result: Result) -> str:
    history = result.objectives.history(result.space, result.trials)
    if not (~history.pending).any():
        return _quiet("No trial has finished yet.")
    options = int(result.space.cardinalities.max())
    evidence = Evidence.of(history, options, width=1.0)
    means: list[list[float | None]] = []
    texts: list[list[str]] = []
    for place, position in enumerate(result.space.positions):
        tried = evidence.trials[place]
        known = range(len(position.choices))
        means.append([float(evidence.mean[place, o]) if tried[o] else None for o in known])
        texts.append([f"{position.choices[o]} ({tried[o]})" for o in known])
        means[-1] += [None] * (options - len(position.choices))
        texts[-1] += [""] * (options - len(position.choices))
    figure = go.Figure(
        go.Heatmap(
            z=means,
            text=texts,
            texttemplate="%{text}" if options <= 8 else None,
            x=[f"option {DIGITS[o]}" for o in range(options)],
            y=[p.name for p in result.space.positions],
            colorscale="RdYlGn",
            zmin=0,
            zmax=1,
            colorbar={"title": "mean rank"},
        )
    )
    figure.update_yaxes(autorange="reversed", type="category")
    legend = "Mean rank of the trials with each option, 1 is best; in brackets, their number."
    if result.objectives.several:
        legend += " Trials rank by how many fronts lie above their own."
    return _figure(figure, 120 + 42 * len(result.space.positions)) + _quiet(legend)


def _decisions(result: Result) -> str:
    if not result.decisions:
        return _quiet("Nothing was pruned.")
    rows: list[list[object]] = []
    for decision in result.decisions:
        evidence: dict[str, Any] = decision.get("evidence", {})
        why = "by hand" if decision.get("by") == USER else "no new best for long"
        if evidence:
            why = (
                f"mean rank at most {evidence['upper']} ({evidence['trials']} trials), the best "
                f"option's at least {evidence['best_lower']} ({evidence['best_trials']} trials)"
            )
        rows.append(
            [decision["trial"], decision["action"], decision["position"], decision["choice"], why]
        )
    return _table(["after trial", "action", "position", "option", "evidence"], rows)


def _confirmation(result: Result) -> str:
    confirmed = result.to_json()["confirmations"]
    if not confirmed:
        return _quiet("No trial was confirmed with fresh seeds.")
    rows: list[list[object]] = []
    for number, entries in confirmed.items():
        trial = result.trials[number]
        goals = result.objectives.goals
        values = [
            _values([e["metrics"][goal.metric] for goal in goals])
            if "value" in e
            else f"failed: {e['reason']}"
            for e in entries
        ]
        rows.append([number, trial.ncode, _values(trial.values), ", ".join(values)])
    return _table(["trial", "NCode", "in the search", "with fresh seeds"], rows)


def _values(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.4f}" for value in values)


def _failures(result: Result) -> str:
    if not result.failures:
        return _quiet("No trial failed.")
    rows: list[list[object]] = [[t.number, t.ncode, t.reason] for t in result.failures]
    counts = "".join(f"<p>{html.escape(line)}</p>" for line in failure_lines(result))
    return counts + _table(["trial", "NCode", "reason"], rows)


def _account(result: Result) -> str:
    rows: list[list[object]] = [
        [t.number, t.usage.asks, t.usage.tokens, t.usage.reason]
        for t in result.trials
        if t.usage is not None and t.usage.fallbacks
    ]
    total = f"<p>{html.escape(str(result.usage))}</p>"
    if not rows:
        return total
    return total + _table(["picked by the fallback", "asks", "tokens", "reason"], rows)
