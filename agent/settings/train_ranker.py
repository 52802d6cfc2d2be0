"""Files for `lm-searcher train-ranker`: TOML or the name of a preset, checked like run files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from lm_searcher.agent.settings.run_file import Count, NotNegative, Positive, Section, load_toml
from lm_searcher.spaces.errors import ConfigError, unknown
from lm_searcher.tools.rankers.incontext.pretraining.settings import PRESETS
from lm_searcher.tools.rankers.incontext.pretraining.settings import TrainConfig as Default

Several = Annotated[int, Field(ge=0, strict=True)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False, strict=True)]


class TrainingRunSection(Section):
    """[run]: where, how long, on what."""

    out: Path = Path("trained/incontext")
    minutes: Positive = Default.minutes
    seed: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = Default.seed
    device: str = Default.device
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: Count = Default.threads
    save_every: Positive = Default.save_every
    validate_every: Positive = Default.validate_every

    @field_validator("device")
    @classmethod
    def _known(cls, device: str) -> str:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
            raise ValueError(f"'{device}'; accepted: cpu, cuda, or a device by number as in cuda:0")
        return device


class ModelSection(Section):
    """[model]: sizes of the network, and how much uncertainty counts when it searches."""

    width: Count = Default.width
    option_width: Count = Default.option_width
    layers: Count = Default.layers
    heads: Count = Default.heads
    courage: Annotated[float, Field(allow_inf_nan=False, strict=True)] = Default.courage

    @model_validator(mode="after")
    def _divisible(self) -> ModelSection:
        if self.width % self.heads:
            raise ValueError(f"width = {self.width} is no multiple of heads = {self.heads}")
        return self


class DataSection(Section):
    """[data]: the batches."""

    tokens: Count = Default.tokens
    candidates: Annotated[int, Field(ge=2, strict=True)] = Default.candidates
    workers: Several = Default.workers
    validation_tasks: Annotated[int, Field(ge=16, multiple_of=16, strict=True)] = (
        Default.validation_tasks
    )


class OptimizerSection(Section):
    """[optimizer]: AdamW, and the running average of the weights."""

    lr: Positive = Default.lr
    warmup: Share = Default.warmup
    weight_decay: NotNegative = Default.weight_decay
    average: Share = Default.average


class InContextFile(Section):
    """A whole file for `train-ranker incontext`."""

    run: TrainingRunSection = TrainingRunSection()
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    optimizer: OptimizerSection = OptimizerSection()

    def settings(self) -> Default:
        """The same, as the training takes it."""
        sections = (self.run, self.model, self.data, self.optimizer)
        return Default(**{k: v for section in sections for k, v in section})


def load_incontext(
    config: str, overrides: Mapping[str, Mapping[str, Any]] = {}, presets: Path = PRESETS
) -> Default:
    """The settings of a TOML file or preset, with `overrides` on top. Raises ConfigError."""
    path = preset_or_file(config, presets)
    return load_toml(InContextFile, "training file", path, overrides).settings()


def preset_or_file(config: str, presets: Path) -> Path:
    """The file that `config` names: a preset of that folder, or a path. Raises ConfigError."""
    names = [path.stem for path in presets.glob("*.toml")]
    path = presets / f"{config}.toml" if config in names else Path(config)
    if config not in names and path.suffix != ".toml" and not path.exists():
        raise ConfigError(f"{unknown('preset', config, names)}, or the path of a TOML file")
    return path
