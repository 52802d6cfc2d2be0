"""The part of a report that several objectives add: their front, and its hypervolume."""

from __future__ import annotations

import plotly.graph_objects as go

from lm_searcher.agent.results.result import Result
from lm_searcher.spaces.history import Trial, TrialState


def front_figure(result: Result) -> go.Figure | None:
    """The trials by their first two objectives with the front among them; None before one has
    values. Of three objectives or more the front's line is left out: it is no line."""
    valued = _valued(result)
    if not valued:
        return None
    members = {member.number for member in result.front}
    kinds = (
        ("trial", "circle", [t for t in valued if t.violation <= 0 and t.number not in members]),
        ("breaks a constraint", "x", [t for t in valued if t.violation > 0]),
        ("front", "diamond", [t for t in valued if t.number in members]),
    )
    first, second = result.objectives.goals[:2]
    figure = go.Figure()
    for name, symbol, trials in kinds:
        trials = sorted(trials, key=lambda t: t.values)
        if not trials:
            continue
        lined = name == "front" and len(result.objectives.goals) == 2
        figure.add_scatter(
            x=[t.values[0] for t in trials],
            y=[t.values[1] for t in trials],
            text=[f"{t.ncode} (trial {t.number})" for t in trials],
            mode="lines+markers" if lined else "markers",
            # The corner between two neighbours is as good as the worse of each.
            line={"shape": "hv" if first.direction == "min" else "vh", "width": 1},
            marker={"symbol": symbol, "opacity": 0.9 if name == "front" else 0.5},
            name=name,
        )
    figure.update_layout(
        xaxis_title=f"{first.metric} ({first.direction})",
        yaxis_title=f"{second.metric} ({second.direction})",
    )
    return figure


def hypervolume_figure(result: Result) -> go.Figure:
    """What the front dominates after each trial."""
    figure = go.Figure()
    figure.add_scatter(
        x=[t.number for t in result.trials],
        y=result.hypervolumes(),
        mode="lines",
        line={"shape": "hv"},
        name="hypervolume",
    )
    figure.update_layout(xaxis_title="trial", yaxis_title="hypervolume", yaxis_rangemode="tozero")
    return figure


def parallel_figure(result: Result) -> go.Figure | None:
    """Every objective of every trial as an axis, better at the top; the front stands out."""
    valued = _valued(result)
    if not valued:
        return None
    members = {member.number for member in result.front}
    dimensions = []
    for place, goal in enumerate(result.objectives.goals):
        values = [t.values[place] for t in valued]
        low, high = min(values), max(values)
        ends = [low, high] if goal.direction == "max" else [high, low]
        label = f"{goal.metric} ({goal.direction})"
        dimensions.append({"label": label, "values": values, "range": ends})
    return go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={
                "color": [int(t.number in members) for t in valued],
                "colorscale": [[0, "#cccccc"], [1, "#d62728"]],
                "cmin": 0,
                "cmax": 1,
            },
        )
    )


def _valued(result: Result) -> list[Trial]:
    return [t for t in result.trials if t.state is TrialState.COMPLETE and t.values]
