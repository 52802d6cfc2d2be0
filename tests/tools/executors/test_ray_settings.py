"""[executor] kind = "ray"."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.executors.cluster.connecting import environment_with_token
from lm_searcher.tools.executors.protocol import Site
from lm_searcher.tools.executors.settings import executor_settings


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"address": "ray://head:10001"}, "Ray Client"),
        ({"gpus": 1.5}, "whole number"),
        ({"gpus": 0.0001}, "0.001"),
        ({"gpus": -1.0}, "greater than or equal to 0"),
        ({"gpus": 0.0, "cpus": 0.0}, "must take something"),
        ({"devices": ["0"]}, "Ray assigns"),
        ({"orphan": 1.0}, "10"),
    ],
)
def test_bad_values(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        executor_settings({"kind": "ray"} | keys)


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    settings = executor_settings({"kind": "ray"})
    with pytest.raises(ConfigError, match=r"pip install 'lm-searcher\[ray\]'"):
        settings.make(FunctionEvaluator(lambda config: 1.0), Site())


def test_a_token_is_used_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "RAY_AUTH_MODE" not in environment_with_token()
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    assert environment_with_token()["RAY_AUTH_MODE"] == "token"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert environment_with_token()["RAY_AUTH_MODE"] == "disabled"
