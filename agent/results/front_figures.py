"""Figures of a run with several objectives: the front and its hypervolume.

Optuna's `plot_pareto_front` is not used: it shows neither NCodes nor the metrics' names, joins no
front line and draws no more than three objectives.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from lm_searcher.agent.results.result import Result
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.objectives import Goal


def front_figure(result: Result) -> go.Figure | None:
    """Trials by their first two objectives, the front marked; None before a trial has values.

    The front's members are joined by a line only if there are exactly two objectives.
    """
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
            # The corner between two neighbours has the worse value of each objective.
            line={"shape": "hv" if first.direction == "min" else "vh", "width": 1},
            marker={"symbol": symbol, "opacity": 0.9 if name == "front" else 0.5},
            name=name,
        )
    for update, goal, place in ((figure.update_xaxes, first, 0), (figure.update_yaxes, second, 1)):
        title = f"{goal.metric} ({goal.direction})"
        update(title=title, range=_range(valued, members, goal, place))
    return figure


def _range(trials: list[Trial], members: set[int], goal: Goal, place: int) -> tuple[float, float]:
    """The axis of an objective: all of the front, and 95 % of the trials, with a margin.

    A single diverged trial would otherwise press the front into a corner.
    """
    losses = {trial.number: -goal.sign * trial.values[place] for trial in trials}
    best = min(losses.values())
    bulk = float(np.quantile(list(losses.values()), 0.95))
    worst = max([bulk, *(losses[number] for number in members)])
    margin = 0.06 * (worst - best) or 0.5
    ends = -goal.sign * (best - margin), -goal.sign * (worst + margin)
    return min(ends), max(ends)


def hypervolume_figure(result: Result) -> go.Figure:
    """The hypervolume of the front after each trial."""
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
    """One axis per objective, better values at the top; the front's trials in red.

    None before a trial has values.
    """
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
