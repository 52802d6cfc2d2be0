from __future__ import annotations

from typing import Any

import pytest
from stores import driving

from lm_searcher.agent.loop.request_files import waiting
from lm_searcher.agent.search import Search
from lm_searcher.agent.toolbox.registry import call, question
from lm_searcher.agent.toolbox.workspace import Workspace


def go_on(workspace: Workspace, trials: int) -> None:
    """As resume, in this process."""
    path = workspace.files(None).folder / "run.toml"
    Search.from_file(path, overrides={"budget": {"trials": trials}}).run()


@pytest.mark.slow
def test_a_good_architecture_ranks_above_a_bad_one(workspace: Workspace, run: Any) -> None:
    run("grid", trials=12, ranker="forest")
    tried = {t["ncode"] for t in call(workspace, "best", {"top": 50}).data["trials"]}
    assert not {"550", "505"} & tried
    near = next(c for c in ("221", "241", "230", "232", "131", "331", "220") if c not in tried)
    good = call(workspace, "rank_ncode", {"ncode": near}).data
    bad = call(workspace, "rank_ncode", {"ncode": "505"}).data
    assert good["of"] == bad["of"] == 216 - 12
    assert 1 <= good["place"] < bad["place"] <= bad["of"]
    assert good["ranker"] == "forest"
    assert good["config"] == dict(zip("abc", map(int, near), strict=True))


@pytest.mark.slow
def test_of_a_measured_one_the_measurement(workspace: Workspace, run: Any) -> None:
    run("grid", trials=20)
    trials = call(workspace, "best", {"top": 20}).data["trials"]
    third = trials[2]
    result = call(workspace, "rank_ncode", {"ncode": third["ncode"]})
    assert result.data["value"] == third["value"]
    assert result.data["of"] == 20
    assert result.data["place"] == 1 + sum(t["value"] > third["value"] for t in trials)
    again = call(workspace, "evaluate_ncode", {"ncode": third["ncode"]})
    assert again.data["value"] == third["value"] and "already" in again.summary
    assert workspace.committed == 0
    over = call(workspace, "override_next", {"ncode": third["ncode"]})
    assert over.error and "already" in over.summary


def test_a_ranker_that_costs_is_not_asked(workspace: Workspace, run: Any) -> None:
    run("grid", trials=3)
    files = workspace.files("grid")
    text = (files.folder / "run.toml").read_text().replace("evolution", "lm:some/model")
    (files.folder / "run.toml").write_text(text)
    with driving(files, ranker={"name": "lm:some/model"}):
        pass
    untried = "505"
    result = call(workspace, "rank_ncode", {"ncode": untried})
    assert result.error and "asks a model for every order" in result.summary


def test_measuring_by_hand_counts_as_a_trial(workspace: Workspace, run: Any) -> None:
    run("grid", trials=4)
    workspace.budget_trials = 0
    asked = question(workspace, "evaluate_ncode", {"ncode": "505"})
    assert asked == "Measure 505 in run 'grid'? 1 trial."
    assert question(workspace, "evaluate_ncode", {"ncode": "999"}) is None  # an error, not a cost
    assert call(workspace, "evaluate_ncode", {"ncode": "999"}).error


def test_the_next_pick_of_a_finished_run(workspace: Workspace, run: Any) -> None:
    run("grid", trials=4)
    result = call(workspace, "override_next", {"ncode": "505"})
    assert result.error and "take evaluate_ncode, or resume with more trials" in result.summary
    assert not list(waiting(workspace.files(None).requests))


@pytest.mark.slow
def test_options_pruned_and_restored(workspace: Workspace, run: Any) -> None:
    run("grid", trials=6)
    result = call(workspace, "prune_option", {"position": "a", "choice": 2})
    assert result.summary == "a = 2 is searched no more in grid once it goes on"
    go_on(workspace, 30)
    trials = call(workspace, "best", {"top": 50}).data["trials"]
    assert not [t for t in trials if t["trial"] >= 6 and t["ncode"][0] == "2"]
    decision = call(workspace, "explain", {}).data["decisions"][0]
    assert decision == {
        "trial": 6,
        "action": "prune",
        "position": "a",
        "option": 2,
        "choice": 2,
        "by": "hand",
    }
    call(workspace, "restore_option", {"position": "a", "choice": "2"})
    go_on(workspace, 50)
    trials = call(workspace, "best", {"top": 50}).data["trials"]
    assert [t for t in trials if t["trial"] >= 30 and t["ncode"][0] == "2"]


BAD = [
    ("prune_option", {"position": "d", "choice": 1}, "unknown position 'd' (accepted: a, b, c)"),
    ("prune_option", {"position": "a", "choice": 9}, "unknown option of 'a' '9'"),
    ("restore_option", {"position": "a", "choice": 1}, "a = 1 is searched already"),
    ("rank_ncode", {"ncode": "23"}, "2 digits; accepted: 3"),
    ("override_next", {"ncode": "239"}, "names no option of 'c'"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments", "message"), BAD)
def test_what_the_space_does_not_have(
    workspace: Workspace, run: Any, name: str, arguments: dict[str, Any], message: str
) -> None:
    run("grid", trials=3)
    result = call(workspace, name, arguments)
    assert result.error and message in result.summary
