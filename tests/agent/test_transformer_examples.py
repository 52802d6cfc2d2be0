from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_searcher.agent.search import Search
from lm_searcher.agent.settings.build import from_run_file
from lm_searcher.agent.settings.run_file import RunFile
from lm_searcher.spaces.ncode import to_ncodes
from lm_searcher.spaces.settings import checked
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("charlm.toml", {"classes": 256, "context": 512}),
        ("vit.toml", {"classes": 10, "in_channels": 3, "image_size": 32}),
    ],
)
def test_the_full_size_in_the_comments_can_be_searched(name: str, call: dict[str, Any]) -> None:
    comments = (EXAMPLES / name).read_text().partition("# Full size")[2].partition("\n")[2]
    text = "\n".join(line.removeprefix("#").strip() for line in comments.splitlines())
    space, evaluator = from_run_file(checked(RunFile, tomllib.loads(text), name))
    assert isinstance(evaluator, TrainEvaluator) and evaluator.recipe.optimizer == "adamw"
    assert space.cost is not None
    (limit,) = tomllib.loads(text)["constraints"]
    metric, most = limit.split(" <= ")
    ncodes = to_ncodes(space.sample(200, np.random.default_rng(0)))
    costs = [space.cost(space.decode(n), **call, **space.settings)[metric] for n in ncodes]
    assert 0.2 < np.mean(np.array(costs) <= float(most)) < 0.9


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
