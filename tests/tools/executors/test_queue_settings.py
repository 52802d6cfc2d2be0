"""[executor] kind = "queue": what is refused before anything is written."""

from __future__ import annotations

from typing import Any

import pytest

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.executors.protocol import Site
from lm_searcher.tools.executors.settings import executor_settings

SITE: dict[str, Any] = {"id": "a", "name": "a", "url": "postgresql://me:secret@nowhere/runs"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"url": "memory"}, "memory"),
        ({"url": "sqlite:///runs/a/trials.db"}, "sqlite"),
        ({"url": "mysql://me:secret@nowhere/runs"}, "mysql"),
        ({"described": False}, "run file"),
    ],
)
def test_a_run_that_no_worker_could_serve_is_refused(change: dict[str, Any], named: str) -> None:
    settings = executor_settings({"kind": "queue"})
    with pytest.raises(ConfigError, match=named) as refusal:
        settings.make(FunctionEvaluator("m:f"), Site(**SITE | change))
    assert "secret" not in str(refusal.value) and "\n" not in str(refusal.value)


def test_devices_are_the_workers_own() -> None:
    with pytest.raises(ValueError, match="worker --gpu"):
        executor_settings({"kind": "queue", "devices": ["0"]})


def test_picks_are_as_many_as_there_are_free_workers_unless_a_number_is_given() -> None:
    assert executor_settings({"kind": "queue"}).picks is None
    assert executor_settings({"kind": "queue", "workers": 4}).picks == 4
    assert executor_settings({"kind": "queue", "workers": 4, "batch": 2}).picks == 2
