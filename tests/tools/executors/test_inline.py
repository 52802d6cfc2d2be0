"""Evaluations in the controller's process."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from executor_contract import ExecutorContract, Start, evaluation, started

from lm_searcher.tools.executors.evaluate_all import evaluate_all
from lm_searcher.tools.executors.inline import InlineExecutor
from lm_searcher.tools.executors.protocol import Ended, Reported


@pytest.fixture
def start() -> Iterator[Start]:
    yield from started(InlineExecutor)


class TestInlineExecutor(ExecutorContract):
    at_once = interrupts = False


def test_a_poll_goes_on_with_the_oldest(start: Start) -> None:
    def train(config: dict[str, Any], report: Callable[[int, float], bool]) -> int:
        report(1, config["x"])
        return os.getpid()

    executor = start(train, workers=2)
    executor.submit(evaluation(0, x=1))
    executor.submit(evaluation(1, x=2))
    first, second, third, fourth = (executor.poll(0.0) for _ in range(4))
    assert (first, third) == ([Reported(0, 1, 1.0)], [Reported(1, 1, 2.0)])
    for key, (ended,) in enumerate((second, fourth)):
        assert isinstance(ended, Ended) and ended.key == key
        assert ended.outcome is not None and ended.outcome.metrics == {"value": os.getpid()}


def test_an_exit_is_a_failure(start: Start) -> None:
    ((_, outcome),) = evaluate_all(start(lambda config: sys.exit(3)), [evaluation()])
    assert outcome.reason == "exited with code 3"


def test_an_interrupt_of_the_evaluation_ends_the_poll(start: Start) -> None:
    def interrupt(config: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    executor = start(interrupt)
    executor.submit(evaluation())
    with pytest.raises(KeyboardInterrupt):
        executor.poll(1.0)


def test_closing_leaves_no_thread(start: Start) -> None:
    def train(config: dict[str, Any], report: Callable[[int, float], bool]) -> float:
        for epoch in range(1, config["epochs"] + 1):
            try:
                report(epoch, 0.0)
            except Exception:  # an evaluator that catches what it can
                continue
        return 1.0

    before = set(threading.enumerate())
    for epochs in (0, 10**9):
        executor = start(train)
        executor.submit(evaluation(epochs=epochs))
        executor.poll(1.0)
        assert len(set(threading.enumerate()) - before) == 1
        executor.close()
        assert not set(threading.enumerate()) - before
