from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lm_searcher.agent.study.identity import check_same
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.records import Identity
from lm_searcher.spaces.errors import StoreError
from lm_searcher.spaces.nb201.space import nb201
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator


def test_a_run_of_a_version_with_another_builder_name_goes_on() -> None:
    evaluator = {"kind": "train", "builder": "lm_searcher.spaces.nb201.network:build"}
    before = {"kind": "train", "builder": "lm_searcher.spaces.nb201_network:build"}
    shared: dict[str, Any] = {"space": {"name": "nb201"}, "objective": {"metric": "acc"}, "seed": 0}
    files = RunFiles.of("one", Path("runs"), None)
    now = Identity(**shared, evaluator=evaluator)
    check_same(files, shared | {"evaluator": before}, now)
    other = before | {"builder": "lm_searcher.spaces.darts_network:build"}
    with pytest.raises(StoreError, match="evaluator builder"):
        check_same(files, shared | {"evaluator": other}, now)


@pytest.mark.parametrize("module", ["nb201_network", "nb201.network"])
def test_a_training_run_goes_on_under_both_names_of_its_builder(module: str) -> None:
    shared: dict[str, Any] = {"space": {"name": "nb201"}, "objective": {"metric": "acc"}, "seed": 0}
    now = TrainEvaluator(nb201()).identity()
    stored = shared | {"evaluator": now | {"builder": f"lm_searcher.spaces.{module}:build"}}
    check_same(RunFiles.of("one", Path("runs"), None), stored, Identity(**shared, evaluator=now))
