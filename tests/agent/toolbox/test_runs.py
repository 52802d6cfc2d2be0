from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from lm_searcher.agent.toolbox.arguments import StartSearch
from lm_searcher.agent.toolbox.registry import call, question
from lm_searcher.agent.toolbox.start import plan
from lm_searcher.agent.toolbox.workspace import Workspace

TABLE: dict[str, Any] = {"evaluator": "table", "table": "grid.csv", "metric": "acc"}


def test_the_question_shows_what_would_run(workspace: Workspace) -> None:
    assert question(workspace, "start_search", {"space": "nb201", "trials": 50}) is None
    workspace.commit("earlier", 0, 20)
    asked = question(workspace, "start_search", {"space": "nb201", "trials": 31, "epochs": 2})
    assert asked is not None
    first, document = asked.split("\n", 1)
    assert first == (
        "Start the search 'nb201-1'? 31 trials, 30 are left of the 50 that need no asking."
    )
    assert tomllib.loads(document) == {
        "space": {"name": "nb201"},
        "evaluator": {"kind": "train", "dataset": "digits", "epochs": 2},
        "budget": {"trials": 31},
        "executor": {"workers": 1},
        "run": {"name": "nb201-1", "seed": 0, "folder": str(workspace.folder)},
    }
    assert workspace.left() == 30
    assert not (workspace.folder / "nb201-1").exists()


PYTHON = {"evaluator": "python", "table": None, "space": "nb201", "function": "os:system"}
TWO = [{"metric": "acc", "direction": "max"}, {"metric": "size", "direction": "min"}]
LORA = {"evaluator": "lora", "table": None, "metric": None, "space": "lora"}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"constraints": ["params_m < 0.1"]}, "constraint 'params_m < 0.1'; accepted: a metric"),
    ({"constraints": ["acc >= 1"], "known": ["acc"]}, "no architecture of space 'grid' satisfies"),
    ({"constraints": ["params_m <= 1"]}, "unknown metric 'params_m'"),
    ({"objectives": TWO}, "metric and objectives are both given"),
    ({"objectives": [*TWO, TWO[0]], "metric": None}, "objectives: 'acc' is given twice"),
    ({"objectives": [TWO[0], {"metric": "size"}], "metric": None}, "objectives.1.direction"),
    ({"objectives": TWO, "metric": None}, "unknown metric 'size'"),
    ({"objectives": TWO, "metric": None, "target": 1.0}, "[budget] target: there is none for"),
    ({"evaluator": "command"}, "'train', 'table', 'python' or 'lora'"),
    ({"command": "env"}, "unknown argument 'command'"),
    ({"ranker": "endpoint:m@http://evil/v1"}, "unknown ranker"),
    ({"ranker": "lm:some/model"}, "unknown ranker"),
    ({"table": "../../etc/passwd"}, "unknown table"),
    ({"table": "/etc/passwd"}, "unknown table"),
    ({"table": None}, "unknown table ''"),
    ({"metric": None}, "metric is missing; list_evaluators has the table's metrics"),
    ({"metric": "acd"}, "did you mean 'acc'?"),
    (PYTHON, "unknown python function"),
    (LORA | {"space": "nb201"}, "accepted: [space] name = 'lora'"),
    (LORA | {"space_settings": {"base": "some/model"}}, "space_settings"),
    (LORA | {"space_settings": {"ranks": [4]}}, "accepted: 2 to 36"),
    (LORA | {"task": "flying"}, "'language', 'segmentation' or 'generation'"),
    ({"evaluator": "train", "table": None}, "space is missing; see list_spaces"),
    ({"evaluator": "train", "table": None, "space": "nb202"}, "did you mean 'nb201'?"),
    ({"evaluator": "train", "table": None, "dataset": "os:system"}, "'digits', 'cifar10'"),
    ({"evaluator": "train", "space": "nb201"}, "table goes with evaluator 'table'"),
    ({"evaluator": "train", "table": None, "space": "nb201", "dataset": "cifar10"}, "at hand"),
    ({"space": "nb201"}, "grid"),
    ({"space_settings": {"path": 1}, "space": "nb201"}, "space"),
    ({"epochs": 3}, "epochs goes with evaluator 'train'"),
    ({"name": "../x"}, "name: String should match"),
    ({"name": "tables"}, "name 'tables'"),
    ({"trials": 0}, "trials: "),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_cannot_or_must_not_run(
    workspace: Workspace, change: dict[str, Any], message: str
) -> None:
    before = sorted(workspace.folder.rglob("*"))
    result = call(workspace, "start_search", TABLE | change)
    assert result.error
    assert message in result.summary
    assert "root:" not in result.summary
    assert sorted(workspace.folder.rglob("*")) == before


def test_a_defined_space_is_not_trained(workspace: Workspace) -> None:
    positions = [{"name": "a", "choices": [1, 2]}]
    call(workspace, "define_space", {"name": "mine", "positions": positions})
    result = call(workspace, "start_search", {"space": "mine"})
    assert result.error and "has no builder of models to train" in result.summary


def test_what_a_person_allows(workspace: Workspace) -> None:
    workspace.functions, workspace.rankers = ("mine:measure",), ("lm:some/model",)
    workspace.data = Path("cifar")
    call(workspace, "define_space", {"name": "s", "positions": [{"name": "a", "choices": [1, 2]}]})
    given = {"space": "s", "evaluator": "python", "function": "mine:measure", "ranker": "tpe"}
    _, document = plan(workspace, StartSearch.model_validate(given))
    assert document["evaluator"] == {"kind": "python", "function": "mine:measure"}
    assert document["space"] == {"path": str(workspace.folder / "spaces" / "s.toml")}
    given = {"space": "nb201", "dataset": "cifar10", "ranker": "lm:some/model"}
    _, document = plan(workspace, StartSearch.model_validate(given))
    assert document["evaluator"] == {"kind": "train", "dataset": "cifar10", "folder": "cifar"}
    assert document["ranker"] == {"name": "lm:some/model"}


def test_a_finished_run_goes_on_only_with_more_trials(workspace: Workspace, run: Any) -> None:
    run("grid", trials=6)
    assert call(workspace, "status", {}).data["state"] == "finished"
    result = call(workspace, "resume", {})
    assert result.error and "give trials above 6 to search on" in result.summary
    asked = question(workspace, "resume", {"trials": 100})
    assert asked == (
        "Go on with 'grid' to trial 100? 94 trials, 50 are left of the 50 that need no asking."
    )
    assert question(workspace, "resume", {"trials": 56}) is None
    for name in ("pause", "stop"):
        result = call(workspace, name, {})
        assert result.error and f"there is nothing to {name}" in result.summary
    assert question(workspace, "stop", {}) is None


def test_a_name_that_is_taken(workspace: Workspace, run: Any) -> None:
    run("grid", trials=3)
    result = call(workspace, "start_search", TABLE | {"name": "grid"})
    assert result.error and "run 'grid' exists" in result.summary


def test_every_domain_can_be_asked_for(workspace: Workspace) -> None:
    def document(**arguments: Any) -> dict[str, Any]:
        asked = question(workspace, "start_search", {"trials": 60} | arguments)
        assert asked is not None
        return tomllib.loads(asked.split("\n", 1)[1])

    text = document(space="transformer", dataset="pydoc", space_settings={"widths": [16, 32]})
    assert text["space"] == {"name": "transformer", "widths": [16, 32]}
    assert text["evaluator"] == {"kind": "train", "dataset": "pydoc"}
    lora = document(space="lora", evaluator="lora", task="language")
    assert lora["evaluator"] == {"kind": "lora", "task": "language"}
    for space in ("darts", "macro"):
        assert document(space=space)["space"] == {"name": space}


def test_a_run_that_its_hours_end_is_finished(workspace: Workspace, run: Any) -> None:
    run("short", trials=12, hours=1e-9)
    status = call(workspace, "status", {"run": "short"}).data
    assert status["state"] == "finished" and status["trials"] < 12
    assert "hours" in status["why"]
