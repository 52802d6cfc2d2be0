from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lm_searcher.agent.search import Search

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "short", "metrics"),
    [
        ("charlm.toml", {"epochs": 1, "steps": 5}, {"val_loss", "val_bpb", "test_loss"}),
        ("vit.toml", {"epochs": 1}, {"val_accuracy", "test_accuracy", "val_loss"}),
    ],
)
def test_the_example_runs_on_a_small_budget(
    tmp_path: Path, name: str, short: dict[str, Any], metrics: set[str]
) -> None:
    overrides: dict[str, dict[str, Any]] = {
        "evaluator": short,
        "budget": {"trials": 3},
        "confirm": {"top": 1, "seeds": 1},
        "executor": {"workers": 1},
        "run": {"folder": tmp_path},
    }
    result = Search.from_file(EXAMPLES / name, overrides=overrides).run()
    assert len(result.trials) == 3
    for trial in result.trials:
        assert metrics | {"params_m", "flops_m", "train_loss", "epochs"} <= set(trial.metrics)
    values = {trial.ncode: trial.value for trial in result.trials if trial.value is not None}
    best = min(values.values()) if name == "charlm.toml" else max(values.values())
    assert result.incumbent is not None and values[result.incumbent.ncode] == best
