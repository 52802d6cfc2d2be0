"""Every run file in examples/ searches, with a small budget."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from lm_searcher.agent.search import Search
from lm_searcher.agent.settings.build import from_run_file
from lm_searcher.agent.settings.run_file import load_run_file
from lm_searcher.spaces.history import TrialState
from lm_searcher.spaces.lora.bases import untrained
from lm_searcher.tools.evaluators.lora.base_process import write
from lm_searcher.tools.evaluators.lora.evaluator import LoraEvaluator
from lm_searcher.tools.evaluators.lora.generation.digit_classifier import untrained_classifier

FOLDER = Path(__file__).parents[1] / "examples"
RUN_FILES = [
    p for p in sorted(FOLDER.glob("*.toml")) if "evaluator" in tomllib.loads(p.read_text())
]


def write_untrained_base(path: Path, cache: Path) -> None:
    """The base of a LoRA example as if it had been trained: that takes half a minute."""
    _, evaluator = from_run_file(load_run_file(path))
    assert isinstance(evaluator, LoraEvaluator)
    task: Any = evaluator.task
    state = untrained(task.settings.base, "cpu").state_dict()
    if task.identity()["task"] == "generation":
        state = {f"diffuser.{k}": v for k, v in state.items()}
        state |= {f"judge.{k}": v for k, v in untrained_classifier().state_dict().items()}
    write(state, task.embedded_base.path(cache))


MAIN_JOB = "digits"
"""The example that `make search` runs: with worker processes, as its user does."""

PROMISES: dict[str, tuple[set[str], str, float]] = {
    "charlm": (
        {"val_loss", "val_bpb", "test_loss", "train_loss", "flops_m", "epochs"},
        *("params_m", 0.08),
    ),
    "vit": (
        {"val_accuracy", "test_accuracy", "val_loss", "train_loss", "params_m", "epochs"},
        *("flops_m", 2.0),
    ),
}
"""Metrics of every trial, and the constraint of the example."""


@pytest.mark.slow
@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: path.stem)
def test_the_example_searches(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parents[1])  # where its user types the command
    less: dict[str, dict[str, Any]] = {
        "budget": {"trials": 3},
        "ranker": {"initial": 2},  # so that the third is the ranker's choice
        "confirm": {"top": 0},
        "executor": {"workers": 2},
        "run": {"folder": tmp_path},
    }
    section = load_run_file(path).evaluator
    if "epochs" in type(section).model_fields:
        less["evaluator"] = {"epochs": 1}
    if section.kind == "train" and section.dataset == "pydoc":
        less["evaluator"]["steps"] = 10
    if section.kind == "lora":
        less["evaluator"]["cache"] = tmp_path / "cache"
        (tmp_path / "cache").mkdir()
        write_untrained_base(path, tmp_path / "cache")
    search = Search.from_file(path, overrides=less)
    if path.stem != MAIN_JOB:  # the start of worker processes costs ten times these trainings
        search.problem.evaluator.inline = True
    result = search.run()
    assert [t.state for t in result.trials] == [TrialState.COMPLETE] * 3, result.trials
    assert len({search.problem.space.canonical(t.ncode) for t in result.trials}) == 3
    assert result.front if result.objectives.several else result.incumbent is not None
    if search.problem.space.cost is not None and section.kind == "train":
        assert all(t.metrics["params_m"] > 0 for t in result.trials)
    metrics, limit, most = PROMISES.get(path.stem, (set(), None, 0.0))
    for trial in result.trials:
        assert metrics <= set(trial.metrics)
        assert limit is None or trial.metrics[limit] <= most


FULL_SIZE = [
    path  # that of a lora names a model that is not here
    for path in RUN_FILES
    if "\n# [space]\n" in path.read_text() and load_run_file(path).evaluator.kind == "train"
]


@pytest.mark.parametrize("path", FULL_SIZE, ids=lambda path: path.stem)
def test_the_full_size_in_the_comments_is_accepted(path: Path, tmp_path: Path) -> None:
    commented = path.read_text().partition("\n# [space]\n")[2]
    lines = [line.removeprefix("#").strip() for line in ("# [space]\n" + commented).splitlines()]
    full = tmp_path / "full.toml"
    full.write_text("\n".join(lines))
    space, evaluator = from_run_file(load_run_file(full))
    small, _ = from_run_file(load_run_file(path))
    assert space.name == small.name
    assert (space.settings, space.fingerprint) != (small.settings, small.fingerprint)
    assert evaluator.metric in ("val_accuracy", "val_loss")  # no data is read, it is not here
