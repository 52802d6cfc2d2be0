"""Several objectives and constraints, as an agent asks for them and reads what was found."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from lm_searcher.agent.results.result import read_run
from lm_searcher.agent.toolbox.registry import TOOLS, call, question
from lm_searcher.agent.toolbox.workspace import Workspace

TWO = [{"metric": "acc", "direction": "max"}, {"metric": "size", "direction": "min"}]


@pytest.fixture
def sized(workspace: Workspace) -> Workspace:
    """The table has the metric `size` too: a + b + c."""
    table = workspace.folder / "tables" / "grid.csv"
    header, *lines = table.read_text().splitlines()
    rows = [f"{line},{sum(map(int, line.split(',')[:3]))}" for line in lines]
    Path(table).write_text("\n".join([f"{header},size", *rows]) + "\n")
    return workspace


def given(**more: Any) -> dict[str, Any]:
    return {"metric": None, "objectives": TWO, **more}


def test_the_run_file_has_what_was_asked_for(sized: Workspace) -> None:
    wanted = {"evaluator": "table", "table": "grid.csv", "objectives": TWO, "trials": 51}
    wanted |= {"constraints": ["size <= 6"], "known": ["size"]}
    asked = question(sized, "start_search", wanted)
    assert asked is not None
    document = tomllib.loads(asked.split("\n", 1)[1])
    assert document["objectives"] == TWO and document["constraints"] == ["size <= 6"]
    assert document["evaluator"]["known"] == ["size"] and "objective" not in document
    schema = TOOLS["start_search"].schema
    assert schema["properties"]["objectives"]["items"]["$ref"].endswith("Objective")


@pytest.mark.slow
def test_best_and_status_have_the_front(sized: Workspace, run: Any) -> None:
    run("two", **given(trials=25, constraints=["size <= 9"]))
    found = call(sized, "best", {"top": 3})
    assert not found.error and found.data["front_size"] >= 3
    assert found.summary.startswith("two: Pareto front of ")
    assert "; the first 3 by acc are given" in found.summary
    assert [m["values"]["acc"] for m in found.data["front"]] == sorted(
        (m["values"]["acc"] for m in found.data["front"]), reverse=True
    )
    assert found.data["objectives"] == TWO and found.data["constraints"] == ["size <= 9"]
    assert found.data["front"][0]["config"].keys() == {"a", "b", "c"}
    status = call(sized, "status", {}).data
    assert status["best"] is None and status["front_size"] == found.data["front_size"]
    assert status["front"][0]["acc"] == found.data["front"][0]["values"]["acc"]
    assert f"front of {found.data['front_size']} architectures" in call(sized, "status", {}).summary
    explained = call(sized, "explain", {})
    assert not explained.error and len(explained.data["positions"]) == 3


@pytest.mark.slow
def test_one_architecture_of_a_front(sized: Workspace, run: Any) -> None:
    run("two", **given(trials=12))
    member = call(sized, "best", {"top": 50}).data["front"][0]
    ranked = call(sized, "rank_ncode", {"ncode": member["ncode"]})
    assert ranked.data["on_front"] and ranked.data["values"] == member["values"]
    assert ", on the front, place" in ranked.summary
    tried = {t.ncode for t in read_run(sized.files("two")).trials}
    fresh = next(c for c in ("231", "230", "331", "220", "330") if c not in tried)
    placed = call(sized, "rank_ncode", {"ncode": fresh}).data
    assert 1 <= placed["place"] <= placed["of"]


@pytest.mark.slow
def test_what_is_known_to_break_a_constraint_is_not_taken(sized: Workspace, run: Any) -> None:
    run("one", trials=10, constraints=["size <= 6"], known=["size"])
    kept = call(sized, "best", {}).data
    assert list(kept["constraints"]) == ["size <= 6"]
    assert kept["constraints"]["size <= 6"].startswith("kept: ")
    for tool in ("override_next", "evaluate_ncode", "rank_ncode"):
        refused = call(sized, tool, {"ncode": "555"})
        assert refused.error or tool == "override_next"
        if tool != "override_next":  # that says first that the run has ended
            assert "'555' has size = 15, which breaks the constraint size <= 6" in refused.summary
    assert not list(sized.folder.glob("one/*.requests/*"))


def test_nothing_keeps_a_constraint(sized: Workspace, run: Any) -> None:
    run("none", trials=8, constraints=["size <= -1"])
    found = call(sized, "best", {})
    assert "none: no trial satisfies size <= -1; trial " in found.summary
    assert found.data["incumbent"] is None


@pytest.mark.slow
def test_runs_compare_by_hypervolume(sized: Workspace, run: Any) -> None:
    run("short", **given(trials=6, ranker="random"))
    run("long", **given(trials=12, ranker="random"))
    compared = call(sized, "compare_runs", {"runs": ["short", "long"]})
    assert compared.data["comparable"] and compared.data["as_many_trials"] == 6
    assert compared.summary.startswith("after 6 trials each, short, long are best alike: hypervol")
    first, second = compared.data["runs"]
    assert first["best_after_as_many_trials"] == second["best_after_as_many_trials"] > 0
    run("single", trials=6)
    assert call(sized, "compare_runs", {"runs": ["short", "single"]}).data["differ_in"] == [
        "objective",
        "evaluator",
    ]
