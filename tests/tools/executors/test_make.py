"""Which executor an evaluator gets."""

from __future__ import annotations

import contextlib
import os

import pytest

from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.executors.evaluate_all import evaluate_all
from lm_searcher.tools.executors.inline import InlineExecutor
from lm_searcher.tools.executors.local import LocalExecutor
from lm_searcher.tools.executors.make import make_executor, memory_limit
from lm_searcher.tools.protocols import Evaluation


def test_look_ups_stay_in_the_controllers_process() -> None:
    evaluator = FunctionEvaluator(lambda config: os.getpid(), inline=True)
    executor = make_executor(evaluator, workers=3)
    assert isinstance(executor, InlineExecutor) and executor.room() == 3
    ((_, outcome),) = evaluate_all(executor, [Evaluation(0, "0", {}, seed=0)])
    executor.close()
    assert outcome.metrics == {"value": os.getpid()}


@pytest.mark.slow
def test_others_get_workers_with_an_equal_share_of_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    evaluator = FunctionEvaluator(lambda config: 1.0)
    made = make_executor(evaluator, workers=2)
    assert isinstance(made, LocalExecutor)
    with contextlib.closing(made):
        assert made.memory == memory_limit(2) == memory_limit(1) // 2
        assert list(made.devices) == []
