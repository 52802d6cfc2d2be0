from __future__ import annotations

import importlib
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from fake_executor import known_as_fake
from fake_search import search
from langchain_core.messages import AIMessage
from langgraph.graph import StateGraph

from lm_searcher.agent.driven_run import open_context
from lm_searcher.agent.graph import build_graph
from lm_searcher.agent.loop.tool_calls import EVALUATE, EvaluateNCode
from lm_searcher.agent.state import BEGINNING, State
from lm_searcher.spaces.history import Trial

ROOT = Path(__file__).resolve().parents[2]

EDGES = {
    ("__start__", "collect"),  # the store says where the run stands
    ("collect", "remember"),
    ("remember", "propose"),
    ("remember", "submit"),  # trials that wait for a place
    ("remember", "collect"),  # every place is taken
    ("remember", "confirm"),
    ("propose", "rank"),
    ("propose", "submit"),  # an exhausted space: what waits, what runs, and the end
    ("propose", "collect"),
    ("propose", "confirm"),
    ("rank", "submit"),
    ("submit", "collect"),
    ("submit", "propose"),  # only trials that waited were submitted, and there is more room
    ("confirm", "confirm"),  # as many finalists as there is room for
    ("confirm", "__end__"),
}


def test_the_graph_is_the_one_of_the_design() -> None:
    drawn = build_graph().compile().get_graph()
    assert set(drawn.nodes) == {
        "__start__",
        "collect",
        "remember",
        "propose",
        "rank",
        "submit",
        "confirm",
        "__end__",
    }
    assert {(e.source, e.target) for e in drawn.edges} == EDGES


@pytest.mark.parametrize("where", ["agent/graph.py", "ARCHITECTURE.md"])
def test_the_drawing_is_a_way_through_the_graph(where: str) -> None:
    line = re.search(r"START -> .* -> END", (ROOT / where).read_text())
    assert line is not None
    names = {"START": "__start__", "END": "__end__"}
    loop, end = line[0].split(" ... -> ")
    steps = [names.get(word, word) for word in loop.split(" -> ")]
    last = [names.get(word, word) for word in end.split(" -> ")]
    assert set(itertools.pairwise(steps)) | set(itertools.pairwise(last)) <= EDGES
    assert {*steps, *last} == {node for edge in EDGES for node in edge}


def test_the_state_holds_nothing_that_grows() -> None:
    assert (
        set(State.__annotations__)
        == set(BEGINNING)
        == {
            "wanted",
            "pool",
            "calls",
            "usage",
            "stop",
        }
    )


def test_picks_are_tool_calls_that_are_dropped_once_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what the nodes tell is in the graph's custom stream."""
    known_as_fake(monkeypatch)
    mine = search(tmp_path, fake={"workers": 2, "losses": 0.3}, confirm={"top": 0}, store="memory")
    calls: list[Any] = []
    told: list[Any] = []
    with open_context(mine.problem, told.append, "run-id") as context:
        context.executor = mine.problem.executor("run-id")
        stream = (
            build_graph()
            .compile()
            .stream(
                BEGINNING,
                {"recursion_limit": 10**6},
                context=context,
                stream_mode=["custom", "updates"],
            )
        )
        streamed = []
        for mode, chunk in stream:
            if mode == "custom":
                streamed.append(chunk)
            elif "rank" in chunk:
                assert chunk["rank"]["pool"] == b""
                calls += chunk["rank"]["calls"]
            elif "submit" in chunk:
                assert chunk["submit"]["calls"] == []
        trials = list(context.store.trials)
    assert streamed == told and {e.number for e in told if isinstance(e, Trial)} == set(range(9))
    assert json.loads(json.dumps(calls)) == calls, "plain data"
    assert {call["name"] for call in calls} == {EVALUATE}
    AIMessage(content="", tool_calls=calls)  # as LangChain has them
    given = [EvaluateNCode.model_validate(call["args"]) for call in calls]
    assert [(e.ncode, e.seed) for e in given] == [(t.ncode, t.seed) for t in trials]
    assert [call["id"] for call in calls] == [f"trial-{t.number}" for t in trials]


def test_langgraph_json_points_at_the_graph() -> None:
    path = ROOT / "langgraph.json"
    for place in json.loads(path.read_text())["graphs"].values():
        target, _, name = place.partition(":")
        if target.endswith(".py"):
            assert (ROOT / target).is_file()
            target = "lm_searcher." + ".".join(Path(target).with_suffix("").parts)
        assert isinstance(getattr(importlib.import_module(target), name)(), StateGraph)
