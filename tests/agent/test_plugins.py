"""A component of another package is one file and one line, and is run through the command line."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lm_searcher.agent.cli import app
from lm_searcher.agent.search import Search
from lm_searcher.agent.settings.schema import run_file_schema
from lm_searcher.spaces.errors import UserError
from lm_searcher.tools.rankers import make_ranker

TOY = """
from pathlib import Path
from typing import Literal

import numpy as np

from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.evaluators.settings import EvaluatorSettings
from lm_searcher.tools.executors.inline import InlineExecutor
from lm_searcher.tools.executors.settings import ExecutorSettings
from lm_searcher.tools.rankers.settings import RankerSettings


def space(width=3):
    return SearchSpace.of("toy", {"a": list(range(width)), "b": ["x", "y"]})


class FirstRanker:
    def __init__(self, backwards):
        self.backwards = backwards

    def rank(self, pool, history, *, seed):
        order = np.lexsort(pool.T[::-1])
        return order[::-1] if self.backwards else order


class Ranker(RankerSettings):
    backwards: bool = False
    "Whether the last architecture comes first."

    def make(self, space, objective):
        return FirstRanker(self.backwards)


def plain_ranker(space):
    return FirstRanker(False)


class ToyEvaluator:
    metric, direction, deterministic, inline = "acc", "max", True, False

    def __init__(self, scale):
        self.scale = scale

    def identity(self):
        return {"kind": "toy", "scale": self.scale}

    def prepare(self):
        pass

    def evaluate(self, evaluation, report):
        return {"acc": self.scale * evaluation.config["a"], "size": 1.0 + evaluation.config["a"]}


class Evaluator(EvaluatorSettings):
    kind: Literal["toy"] = "toy"
    scale: float = 1.0
    "What the accuracy is multiplied by."

    def make(self, space, run):
        return ToyEvaluator(self.scale)


class Executor(ExecutorSettings):
    note: str = ""
    "Written to a file at the start."

    def make(self, evaluator, site):
        Path("started").write_text(self.note)
        return InlineExecutor(evaluator)


def per_size(config, metrics):
    return metrics["acc"] / metrics["size"] ** (2 if config["b"] == "y" else 1)
"""

ENTRY_POINTS = """
[lm_searcher.spaces]
toy = toy_components:space
[lm_searcher.rankers]
toy = toy_components:Ranker
plain-toy = toy_components:plain_ranker
broken = nowhere_to_be_found:Ranker
[lm_searcher.evaluators]
toy = toy_components:Evaluator
[lm_searcher.executors]
toy = toy_components:Executor
[lm_searcher.metrics]
per_size = toy_components:per_size
"""

RUN = """
constraints = ["size <= 3"]
[space]
name = "toy"
width = 4
[evaluator]
kind = "toy"
scale = 2.0
[objective]
metric = "per_size"
direction = "max"
[ranker]
name = "toy"
backwards = true
initial = 0
[executor]
kind = "toy"
note = "here"
[budget]
trials = 5
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory beside an installed package of toy components."""
    site, work = tmp_path / "site", tmp_path / "work"
    (site / "toy-1.0.dist-info").mkdir(parents=True)
    (site / "toy-1.0.dist-info" / "METADATA").write_text("Name: toy\nVersion: 1.0\n")
    (site / "toy-1.0.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS)
    (site / "toy_components.py").write_text(TOY)
    work.mkdir()
    (work / "job.toml").write_text(RUN)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(work)
    return work


def lm_searcher(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of the command."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "argv", ["lm-searcher", *words])
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        app.main()
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


@pytest.mark.slow
def test_each_component_of_a_package_is_used(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = lm_searcher(monkeypatch, "run", "job.toml", "--json")
    assert code == 0, err
    result: dict[str, Any] = json.loads(out)
    assert result["space"] == "toy" and (toy / "started").read_text() == "here"
    ncodes = [trial["ncode"] for trial in result["trials"]]
    assert ncodes == ["31", "30", "21", "20", "11"], "the toy ranker takes the last first"
    first, best = result["trials"][0], result["incumbent"]
    assert first["metrics"] == {"acc": 6.0, "size": 4.0, "per_size": 6 / 16}
    assert first["value"] == first["metrics"]["per_size"]
    assert best["ncode"] == "20", "the best that keeps the constraint"
    assert lm_searcher(monkeypatch, "run", "job.toml", "--trials", "6")[0] == 0, "it goes on"
    code, out, _ = lm_searcher(monkeypatch, "show", "job", "--json")
    assert code == 0 and len(json.loads(out)["trials"]) == 6
    assert "toy" in lm_searcher(monkeypatch, "spaces")[1]
    code, out, _ = lm_searcher(monkeypatch, "schema")
    assert "evaluator-toy" in json.loads(out)["$defs"]


@pytest.mark.slow
def test_a_mistake_in_a_components_settings_is_one_line(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for before, after, names in (
        ("scale = 2.0", "scael = 2.0", ("scael", "scale")),
        ("backwards = true", "backwards = 3", ("backwards", "3")),
        ("width = 4", "with = 4", ("with", "width")),
        ('kind = "toy"\nscale', 'kind = "tou"\nscale', ("tou", "toy")),
        ('metric = "per_size"', 'metric = "per_sise"', ("per_sise",)),
    ):
        (toy / "job.toml").write_text(RUN.replace(before, after))
        code, _, err = lm_searcher(monkeypatch, "run", "job.toml")
        lines = err.splitlines()
        assert code == 2 and len(lines) == 1 and all(name in lines[0] for name in names), err


@pytest.mark.slow
def test_a_broken_package_is_named_when_it_is_used(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lm_searcher(monkeypatch, "run", "job.toml")[0] == 0
    (toy / "job.toml").write_text(RUN.replace('name = "toy"\nbackwards = true', 'name = "broken"'))
    code, _, err = lm_searcher(monkeypatch, "run", "job.toml", "--name", "other")
    assert code == 2 and len(err.splitlines()) == 1
    assert "package 'toy'" in err and "nowhere_to_be_found" in err
    assert "ranker-toy" in run_file_schema()["$defs"], "the others are described all the same"


def test_components_in_the_python_api(toy: Path) -> None:
    def measure(config: dict[str, Any]) -> dict[str, float]:
        return {"value": config["a"], "acc": config["a"], "size": 2.0}

    keywords: dict[str, Any] = {"metric": "per_size", "direction": "min", "executor": "inline"}
    search = Search("toy", measure, ranker="plain-toy", initial=0, store="memory", **keywords)
    result = search.run()
    assert result.trials[0].ncode == "00"
    assert result.incumbent is not None and result.incumbent.value == 0.0
    with pytest.raises(UserError, match="unknown ranker 'tou'; did you mean 'toy'"):
        make_ranker("tou", search.problem.space)
