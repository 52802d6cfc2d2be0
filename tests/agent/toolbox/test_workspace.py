from __future__ import annotations

from pathlib import Path

import pytest

from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.errors import ConfigError


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "run.toml").touch()


def test_a_run_is_found_by_name_and_the_latest_without(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(ConfigError, match="there is no run yet; begin one with start_search"):
        workspace.files(None)
    make(tmp_path, "one", "two")
    assert workspace.files("one").name == "one"
    assert workspace.files(None).name == "one"  # named last
    with pytest.raises(ConfigError, match="unknown run 'tow'; did you mean 'two'"):
        workspace.files("tow")


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "/etc", "", ".hidden", "spaces", "a\n"])
def test_no_name_leads_anywhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="accepted: letters, digits"):
        Workspace(tmp_path).files_of(name)


def test_a_link_out_of_the_workspace_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    make(tmp_path / "runs", "inside")
    (tmp_path / "runs" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "runs" / "inside" / "trials.db").symlink_to(tmp_path / "elsewhere" / "t.db")
    workspace = Workspace(tmp_path / "runs")
    for name in ("linked", "inside"):
        with pytest.raises(ConfigError, match="outside of the workspace"):
            workspace.files_of(name)


def test_the_budget_counts_every_trial_once() -> None:
    workspace = Workspace(Path("runs"), budget_trials=50)
    workspace.commit("a", 0, 30)
    assert workspace.left() == 20
    assert workspace.uncounted("a", 12, 30) == 0  # paused: those were counted
    workspace.commit("a", 12, 40)
    assert workspace.left() == 10
    assert workspace.uncounted("old", 25, 40) == 15  # begun before this session
    assert workspace.over_budget(10) is None
    assert workspace.over_budget(11) == "11 trials, 10 are left of the 50 that need no asking"
    assert Workspace(Path("runs")).over_budget(10**6) is None
