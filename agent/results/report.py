"""A run as one self-contained HTML page: tables, and plotly figures with their script inlined."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from lm_searcher.agent.results.figures import (
    best_so_far_figure,
    cost_figure,
    importance_figure,
    option_figure,
)
from lm_searcher.agent.results.front_figures import (
    front_figure,
    hypervolume_figure,
    parallel_figure,
)
from lm_searcher.agent.results.report_tables import (
    Section,
    confirmation,
    decisions,
    failures,
    overview,
    usage,
)
from lm_searcher.agent.results.result import Result
from lm_searcher.agent.results.summary import front_table, nothing
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.tools.files import write_atomically

TEMPLATES = Path(__file__).parent / "templates"

AXIS = {"gridcolor": "#e8ebf0", "zeroline": False, "automargin": True, "ticks": ""}
STYLE = go.layout.Template(
    layout={
        "colorway": ["#4c78a8", "#e45756", "#54a24b", "#b279a2"],
        "plot_bgcolor": "white",
        "font": {"color": "#333"},
        "xaxis": AXIS,
        "yaxis": AXIS,
    }
)
"""Plotly's own templates take seven kilobytes in each figure."""


def write_report(result: Result, output: Path) -> None:
    """Write the page atomically. Raises ConfigError if the file cannot be written."""
    page = render(result)
    try:
        write_atomically(output, page)
    except OSError as error:
        raise ConfigError(f"report '{output}': {error.strerror}") from None


def render(result: Result) -> str:
    """The page's HTML. Everything but plotly's own output is escaped by the template."""
    return _template().render(
        title=f"Run {result.run}",
        overview=overview(result),
        sections=_sections(result),
        plotly=get_plotlyjs(),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _sections(result: Result) -> list[Section]:
    if result.objectives.several:
        found = [_front(result), _hypervolume(result)]
    else:
        found = [_best_so_far(result), _cost(result)]
    asked = [usage(result)] if result.usage.decisions else []
    return [
        *found,
        _options(result),
        _importances(result),
        decisions(result),
        confirmation(result),
        failures(result),
        *asked,
    ]


def _html(figure: go.Figure, height: int = 380) -> str:
    figure.update_layout(template=STYLE, height=height, margin={"l": 60, "r": 20, "t": 40, "b": 50})
    drawn: str = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}
    )
    return drawn


def _front(result: Result) -> Section:
    title, figure = "Pareto front", front_figure(result)
    if figure is None:
        return Section(title, note="No trial has values yet.")
    figures = [_html(figure, 460)]
    if len(result.objectives.goals) > 2 and (parallel := parallel_figure(result)) is not None:
        figures.append(_html(parallel))
    if not result.front:
        return Section(title, figures, note=nothing(result))
    header, rows = front_table(result)
    note = (
        "The axes may leave out the worst trials; a double click on the figure shows all of them."
    )
    return Section(title, figures, header=header, rows=rows, note=note)


def _hypervolume(result: Result) -> Section:
    note = (
        "The volume that the front dominates, in the product of the objectives' units. The "
        "reference point is a tenth of each objective's range worse than its worst measured value."
    )
    return Section("Hypervolume", [_html(hypervolume_figure(result))], note=note)


def _best_so_far(result: Result) -> Section:
    figure = best_so_far_figure(result)
    if figure is None:
        return Section("Best so far", note="No trial has a value yet.")
    return Section("Best so far", [_html(figure)])


def _cost(result: Result) -> Section:
    title, figure = f"{result.metric} against parameters", cost_figure(result)
    if figure is None:
        return Section(title, note="The evaluator measured no params_m (millions of parameters).")
    return Section(title, [_html(figure)])


def _options(result: Result) -> Section:
    title, figure = "What the options did", option_figure(result)
    if figure is None:
        return Section(title, note="No trial has finished yet.")
    note = (
        "Mean rank of the trials with each option: 1 is best, 0 is worst. In brackets: their "
        "number."
    )
    if result.objectives.several:
        note += " A trial's rank is the number of fronts above its own."
    height = 120 + 42 * len(result.space.positions)
    return Section(title, [_html(figure, height)], note=note)


def _importances(result: Result) -> Section:
    title, figure = "Which positions matter", importance_figure(result)
    if figure is None:
        return Section(title, note="Too few trials, or all of them have the same value.")
    note = (
        "Share of each position in reaching the best tenth of the values (PED-ANOVA, Watanabe et "
        "al. 2023, by Optuna). From few trials the shares are rough."
    )
    bars = len(figure.data[0].y) * len(figure.data)
    return Section(title, [_html(figure, 120 + 24 * bars)], note=note)
