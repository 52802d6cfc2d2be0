"""What a LoRA search adapts, and how an adapted model is scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol

from pydantic import Field

from lm_searcher.spaces.lora.bases import PREFIX
from lm_searcher.spaces.settings import Count, Positive, SettingsModel
from lm_searcher.tools.evaluators.lora.fit import Fit
from lm_searcher.tools.protocols import Metrics, Report

if TYPE_CHECKING:
    from torch import nn

    from lm_searcher.tools.evaluators.lora.base import BaseModel


class TaskOptions(SettingsModel):
    """The keys of a task. A key that is left out takes the task's own default."""

    ROLE: ClassVar = "evaluator"

    folder: Path | None = None
    """The user's own data."""
    epochs: Count | None = None
    """Passes over the training data."""
    batch_size: Count | None = None
    """Samples a step."""
    learning_rate: Positive | None = None
    """The optimizer's largest learning rate."""
    cache: Path | None = None
    """Where trained embedded bases are kept; default: the user's cache directory."""
    metric: str | None = None
    """The objective, unless [objective] names another; default: the task's."""
    gradient_checkpointing: bool = False
    """Less memory for more time."""
    context: Count | None = None
    """language only: tokens in a block of text."""
    classes: Annotated[int, Field(ge=2, le=255, strict=True)] | None = None
    """segmentation only: the number of classes in the masks, the background included."""
    train_head: bool | None = None
    """segmentation only: whether the mask decoder or decode head is trained too."""
    clip: Path | None = None
    """generation only: the directory of a CLIP model that scores samples."""
    image_size: Count | None = None
    """generation only: height and width in pixels; default: what the pipeline was made for."""


class TaskSettings(TaskOptions):
    """What a task is made with."""

    base: str
    """ "builtin:NAME", a directory, or a hub id: that of the space."""

    @property
    def embedded(self) -> bool:
        """Whether the base comes with the package."""
        return self.base.startswith(PREFIX)

    def fit(self, default: Fit) -> Fit:
        """How an adapter is trained: `default`, and what was given in its place.

        Raises ConfigError.
        """
        given = {name: getattr(self, name) for name in ("epochs", "batch_size", "learning_rate")}
        return replace(default, **{k: v for k, v in given.items() if v is not None})


class Task(Protocol):
    """One kind of adaptation: a base model, the data it is adapted to, and a score.

    Made as ``Task(settings: TaskSettings)``, which must be cheap: no file is read and nothing
    heavy is imported before `prepare`. It is pickled to worker processes, so what `prepare` loads
    is kept in the process (functools.cache), not in the task.
    """

    @property
    def settings(self) -> TaskSettings:
        """What it was made with."""
        ...

    @property
    def metric(self) -> str:
        """The metric that is the objective unless the run file names another."""
        ...

    @property
    def direction(self) -> str:
        """`max` or `min`, of `metric`."""
        ...

    @property
    def own_base(self) -> BaseModel | None:
        """The embedded base that is adapted; None for a base of the user's."""
        ...

    def identity(self) -> dict[str, Any]:
        """What must not change within a run for its values to be comparable: the task's name, its
        recipe and sizes, the digest of an embedded base's recipe; not where files lie."""
        ...

    def prepare(self) -> None:
        """Import what `fit` needs, read the data (numpy), make sure that the base is there.

        Once a worker process, which then forks trials: no threads, no torch operation, no
        accelerator. `base.BaseModel.make` trains an embedded base in a process of its own.
        Raises UserError.
        """
        ...

    def base(self) -> nn.Module:
        """A fresh copy of the trained base on the CPU; its module names are those of the space.

        Called in the trial's own process, after `prepare`. Raises UserError.
        """
        ...

    def fit(self, model: nn.Module, *, seed: int, report: Report) -> Metrics:
        """Train the parameters of `model` that require a gradient, then score it.

        `model` is what `base` returned with the adapters in it, all else frozen; the task moves
        it to its device. Where nothing requires a gradient (every rank 0), nothing is trained and
        the base's own score is measured. `loop.train` does the training for tasks that fit it.
        Calls ``report(step, value)`` with the objective after each epoch, steps from 1, and ends
        at once when that returns True. Among the metrics are `metric` and ``epochs``. Raises
        TrialFailure for a training that diverged.
        """
        ...
