"""[evaluator] kind = "lora"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.evaluators.lora.evaluator import LoraEvaluator
from lm_searcher.tools.evaluators.lora.task import TaskOptions, TaskSettings
from lm_searcher.tools.evaluators.lora.tasks import make_task, own_base
from lm_searcher.tools.evaluators.settings import EvaluatorSettings, RunInfo


class LoraSettings(EvaluatorSettings, TaskOptions):
    """[evaluator] kind = "lora": train adapters on the base of the space "lora"."""

    kind: Literal["lora"] = "lora"
    task: str = "language"
    """language, segmentation, generation: what the adapted model does, and its score."""

    def make(self, space: SearchSpace, run: RunInfo) -> LoraEvaluator:
        """See EvaluatorSettings."""
        if "base" not in space.settings:
            raise ConfigError(
                f"[evaluator] kind = 'lora' with space '{space.name}'; "
                "accepted: [space] name = 'lora'"
            )
        options = self.model_dump(exclude={"kind", "task"})
        settings = TaskSettings(base=space.settings["base"], **options)
        return LoraEvaluator(space, make_task(self.task, settings))

    def space_defaults(self, space: str) -> Mapping[str, Any]:
        """See EvaluatorSettings."""
        return {"base": own_base(self.task)} if space == "lora" else {}
