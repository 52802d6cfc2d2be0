"""The tasks of LoRA searches, by name."""

from __future__ import annotations

from dataclasses import dataclass

from lm_searcher.spaces.errors import EvaluatorError, unknown
from lm_searcher.spaces.lora.bases import PREFIX
from lm_searcher.tools.evaluators.lora.task import Task, TaskSettings
from lm_searcher.tools.importing import resolve


@dataclass(frozen=True)
class Entry:
    """A task's class as "module:class", and its default base."""

    reference: str
    base: str


_HERE = "lm_searcher.tools.evaluators.lora"
TASKS = {
    "language": Entry(f"{_HERE}.language.task:LanguageTask", f"{PREFIX}language"),
    "segmentation": Entry(f"{_HERE}.segmentation.task:SegmentationTask", f"{PREFIX}segmenter"),
    "generation": Entry(f"{_HERE}.generation.task:generation_task", f"{PREFIX}diffuser"),
}
"""A new task is one file and one line here; it is created as Task(settings)."""


def own_base(name: str) -> str:
    """The embedded base of the task `name`. Raises EvaluatorError for an unknown one."""
    if name not in TASKS:
        raise EvaluatorError(unknown("LoRA task", name, TASKS))
    return TASKS[name].base


def make_task(name: str, settings: TaskSettings) -> Task:
    """The task `name`. Raises EvaluatorError for an unknown name or another task's base."""
    base = own_base(name)
    if settings.base.startswith(PREFIX) and settings.base != base:
        raise EvaluatorError(
            f"task '{name}' cannot adapt base '{settings.base}'; "
            f"accepted: {base}, a directory, or a hub id"
        )
    task: Task = resolve(TASKS[name].reference, "LoRA task", EvaluatorError)(settings)
    return task
