"""The report of a run, as HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest

from lm_searcher.agent.results.figures import LEAST, importance_figure
from lm_searcher.agent.results.report import render
from lm_searcher.agent.results.result import Result
from lm_searcher.agent.search import Search
from lm_searcher.spaces.space import SearchSpace

SPACE = SearchSpace.of("<b>grid</b>", {"big": [0, 1, 2, 3], "<i>small</i>": [0, 1, 2, 3]})


def measure(config: dict[str, int]) -> dict[str, float]:
    big, small = config["big"], config["<i>small</i>"]
    if (big, small) == (3, 0):
        raise ValueError("no <script> here")
    return {"acc": 10.0 * big + small, "params_m": 1.0 + big + small}


def run(**settings: Any) -> Result:
    given: dict[str, Any] = {"metric": "acc"} | settings
    return Search(SPACE, measure, store="memory", ranker="random", **given).run()


TWO = [{"metric": "acc", "direction": "max"}, {"metric": "params_m", "direction": "min"}]


class Tags(HTMLParser):
    """Collects the opening tags, and checks that each is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("settings", [{}, {"metric": None, "objectives": TWO}], ids=["one", "two"])
def test_the_page_is_whole_and_needs_nothing_else(settings: dict[str, Any]) -> None:
    page = render(run(trials=16, **settings))
    tags = Tags(page)
    assert tags.open == []
    assert {name for name, _ in tags.seen} <= {
        *("html", "head", "meta", "title", "style", "script", "body"),
        *("h1", "h2", "div", "p", "table", "tr", "th", "td"),
    }, "names of the space and reasons are escaped"
    assert not [attrs for _, attrs in tags.seen if "src" in attrs or "href" in attrs]
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert len(titles) == len(set(titles)) >= 7
    assert page.count('class="plotly-graph-div"') == 4
    assert len(page) < 4_900_000


def test_the_position_that_matters_is_drawn_first() -> None:
    figure = importance_figure(run(trials=16))
    assert figure is not None
    [bars] = figure.data
    assert bars.name == "acc" and list(bars.y) == ["<i>small</i>", "big"]  # drawn from the bottom
    assert bars.x[1] > bars.x[0] >= 0 and sum(bars.x) == pytest.approx(1.0)


def test_few_trials_have_no_importances() -> None:
    assert importance_figure(run(trials=LEAST - 1)) is None


def test_the_front_is_inside_the_axes() -> None:
    from lm_searcher.agent.results.front_figures import front_figure

    result = run(trials=16, metric=None, objectives=TWO)
    figure = front_figure(result)
    assert figure is not None and len(result.front) > 1
    for axis, metric in ((figure.layout.xaxis, "acc"), (figure.layout.yaxis, "params_m")):
        low, high = axis.range
        assert all(low < member.values[metric] < high for member in result.front)
