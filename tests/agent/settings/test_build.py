"""What is made from settings: the same by the Python API and by a run file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lm_searcher.agent.search import Search
from lm_searcher.agent.settings.build import as_evaluator
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.tables import Table
from lm_searcher.tools.evaluators.command import CommandEvaluator
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.evaluators.table import TableEvaluator

SPACE_FILE = '[[positions]]\nname = "a"\nchoices = [1, 2, 3, 4, 5, 6]\n'
RUN = """
[space]
path = "space.toml"
[evaluator]
kind = "python"
function = "counting:measure"
[executor]
kind = "inline"
[ranker]
name = "random"
[store]
url = "memory"
[budget]
trials = 4
"""
COUNTING = """
def measure(config):
    with open("calls", "a") as file:
        print(config["a"], file=file)
    return float(config["a"])
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """In a folder with a user's function: how often it was called since the last time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "counting.py").write_text(COUNTING)
    (tmp_path / "space.toml").write_text(SPACE_FILE)

    def counted() -> int:
        found = len((tmp_path / "calls").read_text().splitlines())
        (tmp_path / "calls").unlink()
        return found

    return counted


@pytest.mark.parametrize(("deterministic", "expected"), [(None, 4), (True, 4), (False, 10)])
def test_a_function_is_called_as_often_by_the_python_api_as_by_a_run_file(
    calls: Callable[[], int], tmp_path: Path, deterministic: bool | None, expected: int
) -> None:
    """Four trials; with results that vary, three of them again with two fresh seeds each."""
    keywords: dict[str, Any] = {"ranker": "random", "executor": "inline", "store": "memory"}
    said = {} if deterministic is None else {"deterministic": deterministic}
    Search("space.toml", "counting:measure", trials=4, **keywords, **said).run()
    by_api = calls()
    line = "" if deterministic is None else f"deterministic = {str(deterministic).lower()}\n"
    (tmp_path / "run.toml").write_text(RUN.replace("[executor]", line + "[executor]"))
    Search.from_file("run.toml").run()
    assert (by_api, calls()) == (expected, expected)


def test_a_users_own_code_is_assumed_to_be_deterministic() -> None:
    assert FunctionEvaluator("a:b").deterministic and CommandEvaluator("true").deterministic
    assert as_evaluator(None).deterministic
    assert not as_evaluator(len, deterministic=False).deterministic


def test_an_evaluator_says_itself_whether_it_is_deterministic() -> None:
    space = SearchSpace.of("s", {"a": [1, 2]})
    table = TableEvaluator(Table(space, space.enumerate(), {}, {}), "acc")
    with pytest.raises(ConfigError, match="deterministic"):
        as_evaluator(table, deterministic=False)
