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
def test_the_example_searches_on_a_small_budget(
    tmp_path: Path, name: str, short: dict[str, Any], metrics: set[str]
) -> None:
    overrides = {"evaluator": short, "run": {"folder": tmp_path}}
    with Search.from_file(EXAMPLES / name, overrides=overrides) as search:
        # Measured here: worker processes would cost ten times what these trainings do.
        for evaluation in search.ask(2):
            found = search.evaluator.evaluate(evaluation, lambda step, value: False)
            search.tell(evaluation, found)
        result = search.result()
    limit = "params_m" if name == "charlm.toml" else "flops_m"
    values = {}
    for trial in result.trials:
        assert metrics | {"params_m", "flops_m", "train_loss", "epochs"} <= set(trial.metrics)
        assert trial.metrics[limit] <= (0.08 if limit == "params_m" else 2.0)
        values[trial.ncode] = trial.value or 0.0
    best = min(values.values()) if name == "charlm.toml" else max(values.values())
    assert result.incumbent is not None and values[result.incumbent.ncode] == best
