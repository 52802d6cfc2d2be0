from __future__ import annotations

import importlib
import json
from pathlib import Path

from langgraph.graph import StateGraph

from lm_searcher.agent.graph import build_graph
from lm_searcher.agent.state import State

ROOT = Path(__file__).resolve().parents[2]

EDGES = {
    ("__start__", "remember"),  # the store says where the run stands
    ("propose", "rank"),
    ("propose", "confirm"),  # an exhausted space
    ("rank", "evaluate"),
    ("evaluate", "remember"),
    ("remember", "propose"),
    ("remember", "confirm"),
    ("confirm", "__end__"),
}


def test_the_graph_is_the_one_of_the_design() -> None:
    drawn = build_graph().compile().get_graph()
    assert set(drawn.nodes) == {
        "__start__",
        "propose",
        "rank",
        "evaluate",
        "remember",
        "confirm",
        "__end__",
    }
    assert {(e.source, e.target) for e in drawn.edges} == EDGES


def test_the_state_holds_nothing_that_grows() -> None:
    assert set(State.__annotations__) == {
        "number",
        "pool",
        "picks",
        "usage",
        "stop",
    }


def test_langgraph_json_points_at_the_graph() -> None:
    path = ROOT / "langgraph.json"
    for place in json.loads(path.read_text())["graphs"].values():
        target, _, name = place.partition(":")
        if target.endswith(".py"):
            assert (ROOT / target).is_file()
            target = "lm_searcher." + ".".join(Path(target).with_suffix("").parts)
        assert isinstance(getattr(importlib.import_module(target), name)(), StateGraph)
