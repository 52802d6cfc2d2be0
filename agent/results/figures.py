"""Figures of a run: its progress, the metric against size, and the effect of the options.

Optuna draws the importances. Its other figures are not used: its history has no pruned trials and
no NCodes, its slices become unreadable beyond a few positions, and its parallel coordinates hide
good trials behind one bad outlier.
"""

from __future__ import annotations

from dataclasses import replace

import optuna
import plotly.graph_objects as go
from optuna.study import Study
from optuna.visualization import plot_param_importances

from lm_searcher.agent.loop.memory import Evidence
from lm_searcher.agent.optuna_view.sources import FixedResults
from lm_searcher.agent.optuna_view.storage import ResultStorage
from lm_searcher.agent.results.result import Result
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.history import TrialState
from lm_searcher.spaces.ncode import DIGITS

LABELLED = 8
"""The most options a position may have for the heat map to print their names."""
SHOWN = 20
"""The most positions whose importance is drawn."""
LEAST = 10
"""The fewest complete trials that importances are computed from."""


def best_so_far_figure(result: Result) -> go.Figure | None:
    """Each trial's value and the best so far; None before a trial has a value."""
    valued = [t for t in result.trials if t.value is not None]
    if not valued:
        return None
    feasible = [t for t in valued if t.violation <= 0]
    kinds = (
        ("trial", "circle", [t for t in feasible if t.state is TrialState.COMPLETE]),
        ("stopped early", "x", [t for t in feasible if t.state is TrialState.PRUNED]),
        ("breaks a constraint", "x-open", [t for t in valued if t.violation > 0]),
    )
    figure = go.Figure()
    for name, symbol, trials in kinds:
        if not trials:
            continue
        figure.add_scatter(
            x=[t.number for t in trials],
            y=[t.value for t in trials],
            text=[f"{t.ncode}, {len(t.curve)} reports" if t.curve else t.ncode for t in trials],
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
    return figure


def cost_figure(result: Result) -> go.Figure | None:
    """Value against millions of parameters; None if no trial has the metric `params_m`."""
    trials = [t for t in result.trials if t.value is not None and "params_m" in t.metrics]
    if not trials:
        return None
    figure = go.Figure()
    figure.add_scatter(
        x=[t.metrics["params_m"] for t in trials],
        y=[t.value for t in trials],
        text=[t.ncode for t in trials],
        mode="markers",
        name="trial",
        marker={"color": [t.number for t in trials], "colorbar": {"title": "trial"}},
    )
    figure.update_layout(xaxis_title="parameters (millions)", yaxis_title=result.metric)
    return figure


def option_figure(result: Result) -> go.Figure | None:
    """Mean outcome rank of each option as a heat map; None before a trial has finished."""
    history = result.objectives.history(result.space, result.trials)
    if history.pending.all():
        return None
    width = int(result.space.cardinalities.max())
    evidence = Evidence.of(history, width, width=1.0)
    means: list[list[float | None]] = []
    texts: list[list[str]] = []
    for place, position in enumerate(result.space.positions):
        trials, padding = evidence.trials[place], width - len(position.choices)
        row = [float(m) if n else None for m, n in zip(evidence.mean[place], trials, strict=True)]
        means.append(row[: len(position.choices)] + [None] * padding)
        names = [f"{c} ({trials[o]})" for o, c in enumerate(position.choices)]
        texts.append(names + [""] * padding)
    figure = go.Figure(
        go.Heatmap(
            z=means,
            text=texts,
            texttemplate="%{text}" if width <= LABELLED else None,
            x=[f"option {DIGITS[o]}" for o in range(width)],
            y=[p.name for p in result.space.positions],
            colorscale="RdYlGn",
            zmin=0,
            zmax=1,
            colorbar={"title": "mean rank"},
        )
    )
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def importance_figure(result: Result) -> go.Figure | None:
    """Optuna's importance of each position, a bar per objective, the largest at the top.

    At most `SHOWN` positions by the first objective. None with fewer than `LEAST` complete trials,
    or if all values of an objective are equal.
    """
    trials = [t for t in result.trials if t.state is TrialState.COMPLETE and t.values]
    if len(trials) < LEAST:
        return None
    figure = go.Figure()
    names: list[str] = []
    for place, goal in enumerate(result.objectives.goals):
        if len({t.values[place] for t in trials}) < 2:
            return None
        # A study per objective: of a study with several, Optuna ranks every target by minimising.
        study = _study(result, place)
        [bars] = plot_param_importances(study, target_name=goal.metric).data
        shares = dict(zip(bars.y, bars.x, strict=True))
        names = names or list(bars.y)[-SHOWN:]
        figure.add_bar(x=[shares[n] for n in names], y=names, name=goal.metric, orientation="h")
    figure.update_layout(xaxis_title="importance", showlegend=len(result.objectives.goals) > 1)
    figure.update_yaxes(type="category")
    return figure


def _study(result: Result, place: int) -> Study:
    """The run as an Optuna study of one of its objectives."""
    alone = replace(
        result,
        objectives=ObjectiveSet((result.objectives.goals[place],)),
        trials=[replace(t, values=t.values[place : place + 1]) for t in result.trials],
    )
    storage = ResultStorage(FixedResults(alone))
    return optuna.load_study(study_name=result.run, storage=storage)
