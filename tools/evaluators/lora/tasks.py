"""The tasks of LoRA searches, by name."""

from __future__ import annotations

from lm_searcher.spaces.errors import EvaluatorError, unknown
from lm_searcher.tools.evaluators.lora.task import Task, TaskSettings
from lm_searcher.tools.references import resolve

TASKS = {
    "language": "lm_searcher.tools.evaluators.lora.language:LanguageTask",
    "segmentation": "lm_searcher.tools.evaluators.lora.segmentation:SegmentationTask",
    "generation": "lm_searcher.tools.evaluators.lora.generation:GenerationTask",
}
"""A new task is one file and one line here: a class, made as Task(settings)."""


def make_task(name: str, settings: TaskSettings) -> Task:
    """The task `name`. Raises EvaluatorError for an unknown one."""
    if name not in TASKS:
        raise EvaluatorError(unknown("LoRA task", name, TASKS))
    task: Task = resolve(TASKS[name], "task", EvaluatorError)(settings)
    return task
