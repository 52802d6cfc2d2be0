"""The task of LoRA searches for generation: digits, or a Stable Diffusion pipeline."""

from __future__ import annotations

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.lora.bases import PREFIX
from lm_searcher.tools.evaluators.lora.generation.digits import DigitsTask
from lm_searcher.tools.evaluators.lora.task import Task, TaskSettings


def generation_task(settings: TaskSettings) -> Task:
    """The task for the base of `settings`. Raises ConfigError for a setting it does not have."""
    if settings.context is not None:
        raise ConfigError("context is of task 'language' only; task 'generation' has none")
    if not settings.base.startswith(PREFIX):
        from lm_searcher.tools.evaluators.lora.generation.stable_diffusion import PipelineTask

        return PipelineTask(settings)
    for key in ("folder", "clip", "image_size"):
        if getattr(settings, key) is not None:
            raise ConfigError(
                f"{key} goes with the base of a diffusers pipeline; {settings.base} draws the "
                "digits of scikit-learn"
            )
    return DigitsTask(settings)
