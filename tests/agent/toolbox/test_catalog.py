from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lm_searcher.agent.toolbox.registry import call, question
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.space_file import load_space

MLP: dict[str, Any] = {
    "name": "mlp",
    "positions": [
        {"name": "width", "choices": [32, 64, 128]},
        {"name": 'act "x"\n[a]', "choices": ["relu", "gelu", True], "ordered": False},
    ],
}


def test_a_defined_space_is_a_file_that_loads(workspace: Workspace) -> None:
    result = call(workspace, "define_space", MLP)
    assert result.summary == "defined mlp: 2 positions, 9 architectures"
    assert result.data["file"] == "spaces/mlp.toml"
    space = load_space(workspace.folder / "spaces" / "mlp.toml")
    assert [(p.name, p.choices, p.ordered) for p in space.positions] == [
        ("width", (32, 64, 128), True),
        ('act "x"\n[a]', ("relu", "gelu", True), False),
    ]
    assert space.builder is None
    names = [row["name"] for row in call(workspace, "list_spaces", {}).data["spaces"]]
    assert "nb201" in names and names[-1] == "mlp"
    shown = call(workspace, "describe_space", {"space": "mlp"}).data
    assert shown["trainable"] is False
    assert shown["positions"][0] == {"name": "width", "choices": [32, 64, 128], "ordered": True}


def test_overwriting_is_asked_for_and_asked_about(workspace: Workspace) -> None:
    call(workspace, "define_space", MLP)
    again = call(workspace, "define_space", MLP)
    assert again.error and "set replace" in again.summary
    smaller = MLP | {"positions": MLP["positions"][:1]}
    assert question(workspace, "define_space", smaller) is None
    asked = smaller | {"replace": True}
    assert question(workspace, "define_space", asked) == "Overwrite the space 'mlp'?"
    assert call(workspace, "define_space", asked).data["size"] == 3


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": "nb201"}, "built-in"),
    ({"name": "../out"}, "name: String should match"),
    ({"name": "x/y"}, "name: String should match"),
    ({"builder": "os:system"}, "unknown argument 'builder'"),
    ({"positions": []}, "at least 1 item"),
    ({"positions": [{"name": "a", "choices": [1, 1]}]}, "duplicate choices"),
    ({"positions": [{"name": "a", "choices": [1], "builder": "os:system"}]}, "unknown argument"),
    ({"positions": [{"name": "a", "choices": list(range(37))}]}, "at most 36"),
    ({"positions": [{"name": "a", "choices": [float("inf")]}]}, "is no option"),
    ({"positions": [{"name": "a", "choices": ["\ud83d"]}]}, "no"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_a_bad_space_is_not_written(
    workspace: Workspace, change: dict[str, Any], message: str
) -> None:
    result = call(workspace, "define_space", MLP | change)
    assert result.error and message in result.summary
    assert not (workspace.folder / "spaces").exists()


def test_a_space_that_links_out_is_not_read(workspace: Workspace, tmp_path: Path) -> None:
    secret = tmp_path / "secret.toml"
    secret.write_text('name = "s"\n[[positions]]\nname = "key"\nchoices = ["sk-secret"]\n')
    (workspace.folder / "spaces").mkdir()
    (workspace.folder / "spaces" / "s.toml").symlink_to(secret)
    result = call(workspace, "describe_space", {"space": "s"})
    assert result.error and "outside of the workspace" in result.summary
    assert "sk-secret" not in result.text() + call(workspace, "list_spaces", {}).text()
    assert not call(workspace, "list_spaces", {}).error


def test_a_broken_space_does_not_hide_the_others(workspace: Workspace) -> None:
    (workspace.folder / "spaces").mkdir()
    (workspace.folder / "spaces" / "bad.toml").write_text("positions = 1")
    rows = {row["name"]: row for row in call(workspace, "list_spaces", {}).data["spaces"]}
    assert rows["nb201"]["size"] == 15625
    assert "positions = 1" in rows["bad"]["error"]


def test_what_may_measure_and_rank(workspace: Workspace) -> None:
    workspace.functions = ("mine:train",)
    workspace.rankers = ("endpoint:m@http://localhost/v1",)
    data = call(workspace, "list_evaluators", {}).data
    assert data["train"]["datasets"] == ["digits", "pydoc"]
    assert "lora" not in data["train"]["spaces"] and "language" in data["lora"]["tasks"]
    assert data["table"]["grid.csv"] == ["a", "b", "c", "acc"]
    assert "val_loss" in data["table"]["builtin:digits-nb201"]
    assert len(data["table"]) == 2
    assert data["python"] == ["mine:train"]
    assert "local" in data["rankers"] and data["rankers"][-1] == "endpoint:m@http://localhost/v1"
    workspace.data = Path(os.sep)
    assert "cifar10" in call(workspace, "list_evaluators", {}).data["train"]["datasets"]
