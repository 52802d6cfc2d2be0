"""The evaluator of LoRA searches: adapters of the NCode's ranks on a frozen base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.evaluators.lora.task import Task
from lm_searcher.tools.protocols import Evaluation, Metrics, Report


@dataclass
class LoraEvaluator:
    """Adapts the task's base by LoRA (peft) and has the task train and score it.

    Beside the task's metrics: lora_params_m (adapter parameters, millions), trainable_share (of
    all parameters), seconds (training and scoring), and memory_mb. All ranks 0 is the base itself.
    """

    space: SearchSpace
    task: Task
    deterministic: bool = False
    inline: bool = False

    @property
    def metric(self) -> str:
        """See Evaluator."""
        return self.task.metric

    @property
    def direction(self) -> str:
        """See Evaluator."""
        return self.task.direction

    def identity(self) -> dict[str, Any]:
        """The task's identity, and what is adapted."""
        return {"kind": "lora", **self.task.identity(), "settings": dict(self.space.settings)}

    def prepare(self) -> None:
        """See Evaluator."""
        self.task.prepare()

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        """See Evaluator."""
        raise NotImplementedError
