from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

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
