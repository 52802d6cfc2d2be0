from __future__ import annotations

from collections.abc import Callable

import pytest

from lm_searcher.agent.loop.request_files import Request, submit
from lm_searcher.agent.search import Search
from lm_searcher.agent.toolbox.registry import call
from lm_searcher.agent.toolbox.workspace import Workspace

Run = Callable[..., str]


def test_best(workspace: Workspace, run: Run) -> None:
    run("grid", trials=60)
    result = call(workspace, "best", {"run": "grid", "top": 3})
    assert result.summary == (
        "grid: best acc 0.0000 (not confirmed), NCode 231: a = 2, b = 3, c = 1"
    )
    assert result.data["incumbent"]["config"] == {"a": 2, "b": 3, "c": 1}
    values = [trial["value"] for trial in result.data["trials"]]
    assert values == [0.0, -1.0, -1.0]


def test_explain_finds_the_position_that_matters(workspace: Workspace, run: Run) -> None:
    run("grid", trials=30, ranker="random")
    result = call(workspace, "explain", {})
    shares = {row["position"]: row["share"] for row in result.data["positions"]}
    assert next(iter(shares)) == "a"
    assert shares["a"] > 0.6 > 0.3 > shares["b"]
    options = result.data["positions"][0]["options"]
    assert options[0]["choice"] in (1, 2, 3)
    assert [o["mean_rank"] for o in options] == sorted(
        (o["mean_rank"] for o in options), reverse=True
    )
    low, high = options[0]["interval"]
    assert low < options[0]["mean_rank"] < high
    last = {(d["position"], d["choice"]): d["action"] for d in result.data["decisions"]}
    assert "prune" in last.values(), "the run is to be long enough for memory to decide"
    assert all("evidence" in d for d in result.data["decisions"] if d["action"] == "prune")
    searched = {
        (row["position"], option["choice"]): option["searched"]
        for row in result.data["positions"]
        for option in row["options"]
    }
    assert all(searched[pair] == (action == "widen") for pair, action in last.items())


def test_few_trials_are_no_evidence(workspace: Workspace, run: Run) -> None:
    run("few", trials=2)
    shares = [row["share"] for row in call(workspace, "explain", {}).data["positions"]]
    assert shares == [0.0, 0.0, 0.0]


def test_explain_tells_of_requests_that_could_not_be_met(workspace: Workspace, run: Run) -> None:
    run("grid", trials=3)
    files = workspace.files("grid")
    submit(files, Request(action="pick", ncode="999"))
    Search.from_file(files.folder / "run.toml", overrides={"budget": {"trials": 4}}).run()
    refused = call(workspace, "explain", {}).data["refused_requests"]
    assert [r["ncode"] for r in refused] == ["999"]
    assert "names no option of 'a'" in refused[0]["refused"]


@pytest.mark.slow
def test_runs_compared_after_as_many_trials(workspace: Workspace, run: Run) -> None:
    run("short", trials=5)
    run("long", trials=40)
    data = call(workspace, "compare_runs", {"runs": ["short", "long"]}).data
    assert data["comparable"] and data["as_many_trials"] == 5
    short, long = data["runs"]
    assert short["best_after_as_many_trials"] == long["best_after_as_many_trials"]  # one seed
    assert long["best"] > short["best"]
    summary = call(workspace, "compare_runs", {"runs": ["short", "long"]}).summary
    assert summary.startswith("after 5 trials each, short, long are best alike: acc ")
    run("other", trials=5, seed=3)
    result = call(workspace, "compare_runs", {"runs": ["short", "other"]})
    assert "best: acc" in result.summary


def test_runs_of_different_objectives_are_not_compared(workspace: Workspace, run: Run) -> None:
    run("max", trials=5)
    run("min", trials=5, direction="min")
    result = call(workspace, "compare_runs", {"runs": ["max", "min"]})
    assert result.summary == "the runs differ in objective: no fair comparison"
    assert not result.data["comparable"]


def test_the_report_lies_in_the_runs_folder(workspace: Workspace, run: Run) -> None:
    run("grid", trials=4)
    result = call(workspace, "report", {"run": "grid"})
    page = workspace.folder / "grid" / "report.html"
    assert result.data["report"] == str(page)
    assert "Run grid" in page.read_text()


@pytest.mark.parametrize("name", ["best", "explain", "report"])
def test_a_run_that_has_not_begun(workspace: Workspace, name: str) -> None:
    (workspace.folder / "new").mkdir()
    (workspace.folder / "new" / "run.toml").touch()
    result = call(workspace, name, {"run": "new"})
    assert result.error and "there are no trials yet" in result.summary
