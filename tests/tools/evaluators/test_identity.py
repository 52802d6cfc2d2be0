"""What stored runs are compared by stays the same when modules move."""

from __future__ import annotations

import pytest

from lm_searcher.spaces.builtin import builtin
from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.evaluators.lora.base import BaseModel
from lm_searcher.tools.evaluators.lora.task import TaskSettings
from lm_searcher.tools.evaluators.lora.tasks import TASKS, make_task
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.importing import resolve

BUILDERS = {
    "darts": "lm_searcher.spaces.darts_network:build",
    "macro": "lm_searcher.spaces.macro_network:build",
    "nb201": "lm_searcher.spaces.nb201_network:build",
    "transformer": "lm_searcher.spaces.transformer_network:encoder",
}
TRAININGS = {
    "language": "lm_searcher.tools.evaluators.lora.language:train_base",
    "segmentation": "lm_searcher.tools.evaluators.lora.scene_base:train_base",
    "generation": "lm_searcher.tools.evaluators.lora.digit_diffusion:train_base",
}
"""The names in the first runs that were stored."""


@pytest.mark.parametrize("name", BUILDERS)
def test_a_builders_first_name_is_recorded(name: str) -> None:
    space = builtin(name)
    assert TrainEvaluator(space).identity()["builder"] == BUILDERS[name]
    assert isinstance(space.builder, str)
    resolve(space.builder, "builder", EvaluatorError)


def test_another_builder_has_its_own_name() -> None:
    space = SearchSpace.of("own", {"width": [1, 2]}, builder="my_models:mlp")
    assert TrainEvaluator(space).identity()["builder"] == "my_models:mlp"


@pytest.mark.parametrize("name", TASKS)
def test_a_bases_digest_does_not_depend_on_where_its_training_is(name: str) -> None:
    base = make_task(name, TaskSettings(base=TASKS[name].base)).own_base
    assert base is not None
    assert base.digest == BaseModel(base.name, TRAININGS[name], base.recipe).digest
    resolve(base.train, "base", EvaluatorError)


def test_the_generation_base_is_that_of_stored_runs() -> None:
    base = make_task("generation", TaskSettings(base=TASKS["generation"].base)).own_base
    assert base is not None and base.digest == "f81a20d34e264697"
