"""How the in-context ranker is trained: every setting with its default.

A training file has a section for each of the four groups; the training takes them all in one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from lm_searcher.spaces.settings import (
    BelowOne,
    Count,
    CountOrZero,
    Finite,
    NotNegative,
    Positive,
    Seed,
    SettingsModel,
)

PRESETS = Path(__file__).parent / "presets"

FREE = ("out", "minutes", "workers", "threads")
"""What may change when a training goes on."""


class RunOptions(SettingsModel):
    """[run]: where, how long, on what."""

    out: Path = Path("trained/incontext")
    """Folder of checkpoint and weights."""
    minutes: Positive = 60.0
    """Time spent in training altogether, over all resumptions."""
    seed: Seed = 0
    """Seed of weights and tasks."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """float32, bfloat16 (autocast), or auto: bfloat16 where the device is cuda."""
    threads: Count = 1
    """Threads of the processor."""
    save_every: Positive = 120.0
    """Seconds between checkpoints."""
    validate_every: Positive = 300.0
    """Seconds between measurements on held-out tasks."""

    @field_validator("device")
    @classmethod
    def _known(cls, device: str) -> str:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
            raise ValueError(f"'{device}'; accepted: cpu, cuda, or a device by number as in cuda:0")
        return device


class ModelOptions(SettingsModel):
    """[model]: sizes of the network, and how much uncertainty counts when it searches."""

    width: Count = 112
    """Width of the transformer; a multiple of `heads`."""
    option_width: Count = 48
    """Width of an option's encoding."""
    layers: Count = 4
    """Blocks of the transformer."""
    heads: Count = 4
    """Heads of its attention."""
    courage: Finite = 0.0
    """How much uncertainty counts in a score; stored with the weights, not trained."""

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width = {self.width} is no multiple of heads = {self.heads}")
        return self


class DataOptions(SettingsModel):
    """[data]: the batches."""

    tokens: Count = 2600
    """Trials and candidates a batch."""
    candidates: Annotated[int, Field(ge=2, strict=True)] = 64
    """Candidates of a task."""
    workers: CountOrZero = 1
    """Processes that generate tasks; with 0 they are generated between the steps."""
    validation_tasks: Annotated[int, Field(ge=16, multiple_of=16, strict=True)] = 96
    """Held-out tasks for each number of trials."""


class OptimizerOptions(SettingsModel):
    """[optimizer]: AdamW, and the running average of the weights."""

    lr: Positive = 2e-3
    """The largest learning rate."""
    warmup: BelowOne = 0.02
    """The share of the time in which the learning rate rises."""
    weight_decay: NotNegative = 0.02
    """AdamW's weight decay of matrices."""
    average: BelowOne = 0.999
    """How much of the running average of the weights a step keeps."""


class TrainConfig(RunOptions, ModelOptions, DataOptions, OptimizerOptions):
    """All settings of a training."""

    ROLE: ClassVar = "train-ranker incontext"

    @property
    def bfloat16(self) -> bool:
        """Whether the network computes in bfloat16 while it is trained."""
        auto = self.precision == "auto" and self.device.startswith("cuda")
        return auto or self.precision == "bfloat16"

    @property
    def fixed(self) -> dict[str, Any]:
        """What a checkpoint was trained with and must go on with."""
        return self.model_dump(exclude=set(FREE))
