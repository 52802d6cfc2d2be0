"""Files for `train-ranker lm`: TOML or the name of a preset, checked like run files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from lm_searcher.agent.settings.run_file import Count, NotNegative, Positive, Section, load_toml
from lm_searcher.agent.settings.train_ranker import Share, preset_or_file
from lm_searcher.spaces.errors import unknown
from lm_searcher.tools.rankers.lm.finetuning.settings import PRESETS, TableChoice
from lm_searcher.tools.rankers.lm.finetuning.settings import LMTrainConfig as Default
from lm_searcher.tools.rankers.lm.finetuning.tiny_model import SIZES

Range = tuple[Count, Count]


class LMRunSection(Section):
    """[run]: where, on what, and how often what is done; steps."""

    out: Path = Default.out
    seed: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = Default.seed
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: Count | None = None
    log_every: Count = Default.log_every
    save_every: Count = Default.save_every
    evaluate_every: Count = Default.evaluate_every


class LMSection(Section):
    """[model]: what is trained, whole or by an adapter."""

    base: str | None = None
    from_scratch: str | None = None
    adapter: Literal["none", "lora"] = "none"
    rank: Count = Default.rank
    alpha: Count = Default.alpha
    dropout: Share = Default.dropout

    @model_validator(mode="after")
    def _one(self) -> LMSection:
        if (self.base is None) == (self.from_scratch is None):
            raise ValueError("[model] give one of base and from_scratch")
        if self.from_scratch is not None and self.from_scratch not in SIZES:
            raise ValueError(f"[model] {unknown('from_scratch', self.from_scratch, SIZES)}")
        if self.from_scratch is not None and self.adapter != "none":
            raise ValueError("[model] an adapter wants a base; from_scratch trains all weights")
        return self


class TableEntry(Section):
    """[[data.tables]]: a tabular benchmark to draw samples from."""

    path: str
    metric: str
    direction: Literal["max", "min"] | None = None


class LMDataSection(Section):
    """[data]: the samples."""

    samples: Count = Default.samples
    landscapes: Annotated[float, Field(ge=0, le=1, strict=True)] = Default.landscapes
    tables: tuple[TableEntry, ...] = ()
    positions: Range = Default.positions
    options: Annotated[int, Field(ge=2, le=36, strict=True)] = Default.options
    architectures: Range = Default.architectures
    history: Range = Default.history
    candidates: Annotated[int, Field(ge=2, strict=True)] = Default.candidates
    questions: Count = Default.questions
    ramp: Annotated[float, Field(ge=0, le=1, strict=True)] = Default.ramp
    held_out: Count = Default.held_out

    @field_validator("positions", "architectures", "history")
    @classmethod
    def _rises(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError(f"{list(value)}; accepted: [least, most]")
        return value

    @model_validator(mode="after")
    def _room(self) -> LMDataSection:
        least = self.history[0] + self.candidates
        if self.architectures[0] < least:
            raise ValueError(
                f"[data] architectures = {list(self.architectures)}: a subspace needs {least} at "
                "least, for the history and the candidates"
            )
        if not self.tables and not self.landscapes:
            raise ValueError("[data] landscapes = 0 wants [[data.tables]]")
        return self


class LMOptimizerSection(Section):
    """[optimizer]: AdamW; a batch is `batch` x `accumulation` x devices."""

    learning_rate: Positive = Default.learning_rate
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    warmup: Share = Default.warmup
    weight_decay: NotNegative = Default.weight_decay
    beta2: Share = Default.beta2
    epochs: Positive = Default.epochs
    batch: Count = Default.batch
    accumulation: Count = Default.accumulation
    gradient_checkpointing: bool = Default.gradient_checkpointing
    cutoff: Annotated[int, Field(ge=64, strict=True)] = Default.cutoff


class LMFile(Section):
    """A whole file for `train-ranker lm`."""

    run: LMRunSection = LMRunSection()
    model: LMSection
    data: LMDataSection = LMDataSection()
    optimizer: LMOptimizerSection = LMOptimizerSection()

    def settings(self) -> Default:
        """The same, as the training takes it."""
        sections = (self.run, self.model, self.data, self.optimizer)
        values = {key: value for section in sections for key, value in section}
        values["tables"] = tuple(TableChoice(**dict(table)) for table in self.data.tables)
        return Default(**values)


def load_lm(config: str, overrides: Mapping[str, Mapping[str, Any]] = {}) -> Default:
    """The settings of a TOML file or preset, with `overrides` on top. Raises ConfigError."""
    path = preset_or_file(config, PRESETS)
    return load_toml(LMFile, "training file", path, overrides).settings()
