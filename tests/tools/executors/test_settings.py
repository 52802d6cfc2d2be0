"""The section [executor]."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from pydantic import ValidationError

from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.executors.inline import InlineExecutor
from lm_searcher.tools.executors.local import LocalExecutor
from lm_searcher.tools.executors.protocol import Site
from lm_searcher.tools.executors.settings import EXECUTORS, ExecutorSettings, executor_settings


@pytest.mark.parametrize(
    ("given", "awaits"),
    [
        ({}, False),
        ({"workers": 8}, False),
        ({"batch": 4}, True),
        ({"batch": 4, "mode": "async"}, False),
        ({"workers": 8, "mode": "batch"}, True),
    ],
)
def test_a_batch_is_awaited_where_one_is_given(given: dict[str, Any], awaits: bool) -> None:
    assert ExecutorSettings.model_validate(given).awaits_batch == awaits


def test_other_modes_are_refused() -> None:
    with pytest.raises(ValidationError, match="mode"):
        ExecutorSettings.model_validate({"mode": "fast"})


@pytest.mark.slow
def test_the_kinds_of_this_machine() -> None:
    evaluator = FunctionEvaluator(lambda config: 1.0)
    for kind, made in (("inline", InlineExecutor), ("local", LocalExecutor)):
        assert kind in EXECUTORS
        settings = executor_settings({"kind": kind, "workers": 2})
        with contextlib.closing(settings.make(evaluator, Site())) as executor:
            assert isinstance(executor, made) and executor.room() == 2
