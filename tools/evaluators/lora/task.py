"""The protocol of LoRA tasks, and their settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lm_searcher.spaces.lora.bases import PREFIX
from lm_searcher.tools.evaluators.lora.fit import Fit
from lm_searcher.tools.protocols import Metrics, Report

if TYPE_CHECKING:
    from torch import nn

    from lm_searcher.tools.evaluators.lora.base import BaseModel


@dataclass(frozen=True)
class TaskSettings:
    """The task's settings in the run file; None stands for the task's default."""

    base: str
    """ "builtin:NAME", a directory, or a hub id; the same as the space's."""
    folder: Path | None = None
    """The user's own data."""
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    cache: Path | None = None
    """Where trained embedded bases are kept; default: the user's cache directory."""
    metric: str | None = None
    gradient_checkpointing: bool = False
    context: int | None = None
    """language only: tokens in a block of text."""
    classes: int | None = None
    """segmentation only: the number of classes, with the background."""
    train_head: bool | None = None
    """segmentation only: whether the mask decoder or decode head is trained too."""
    clip: Path | None = None
    """generation only: the directory of a CLIP model that scores samples."""
    image_size: int | None = None
    """generation only: height and width in pixels; default: the pipeline's own size."""

    @property
    def embedded(self) -> bool:
        """Whether the base comes with the package."""
        return self.base.startswith(PREFIX)

    def fit(self, default: Fit) -> Fit:
        """How an adapter is trained: `default` with the given settings. Raises ConfigError."""
        given = {name: getattr(self, name) for name in ("epochs", "batch_size", "learning_rate")}
        return replace(default, **{k: v for k, v in given.items() if v is not None})


class Task(Protocol):
    """One kind of adaptation: a base model, the data it is adapted to, and a score.

    Created as ``Task(settings: TaskSettings)``, which must be cheap: no file is read and nothing
    heavy is imported before `prepare`. A task is pickled to worker processes, so keep the data
    that `prepare` loads in the process (functools.cache) and not in the task.
    """

    @property
    def settings(self) -> TaskSettings:
        """The settings that the task was created with."""
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
        """The embedded base that is adapted; None for the user's own base."""
        ...

    def identity(self) -> dict[str, Any]:
        """What must not change within a run, so that its values are comparable: the task's name,
        recipe and sizes, and the digest of an embedded base; not the paths of files."""
        ...

    def prepare(self) -> None:
        """Import what `fit` needs, read the data (numpy), make an embedded base if need be.

        Called once in each worker process, which then forks trials: start no thread, run no torch
        operation, use no accelerator. `base.BaseModel.make` trains an embedded base in a process
        of its own. Raises UserError.
        """
        ...

    def base(self) -> nn.Module:
        """A new copy of the trained base on the CPU; the space names its modules.

        Called in the trial's own process, after `prepare`. Raises UserError.
        """
        ...

    def fit(self, model: nn.Module, *, seed: int, report: Report) -> Metrics:
        """Train the parameters of `model` that require a gradient, then score it.

        `model` is the result of `base` with adapters added and all else frozen; the task moves it
        to its device. If nothing requires a gradient (every rank is 0), only the base is scored.
        `loop.train` is a training loop that most tasks can use. Calls ``report(step, value)`` with
        the objective after each epoch, steps from 1, and ends at once when that returns True. The
        metrics contain `metric` and ``epochs``. Raises TrialFailure if the training diverges.
        """
        ...
