"""How a language model is trained to rank: every setting with its default.

The defaults are the paper's where it gives them. A training file has a section for each of the
four groups; the training takes them all in one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from lm_searcher.spaces.errors import unknown
from lm_searcher.spaces.settings import (
    BelowOne,
    Count,
    Fraction,
    NotNegative,
    Positive,
    Seed,
    SettingsModel,
)
from lm_searcher.tools.rankers.lm.finetuning.samples import Shape
from lm_searcher.tools.rankers.lm.finetuning.subspace_samples import Limits
from lm_searcher.tools.rankers.lm.finetuning.tiny_model import SIZES

PRESETS = Path(__file__).parent / "presets"

FREE = ("out", "device", "threads", "log_every", "save_every", "evaluate_every")
"""What may change when a training goes on."""

Range = tuple[Count, Count]
"""The least and the most."""


class TableChoice(SettingsModel):
    """[[data.tables]]: a tabular benchmark to draw samples from."""

    path: str
    """The table: .csv or .npz."""
    metric: str
    """The metric that is searched for."""
    direction: Literal["max", "min"] | None = None
    """What is better; default: what the table's card says, else max."""


class LMRunOptions(SettingsModel):
    """[run]: where, on what, and how often what is done; intervals are in steps."""

    out: Path = Path("trained/lm")
    """Folder of checkpoints and model."""
    seed: Seed = 0
    """Seed of weights and samples."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto, cpu or cuda."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """bfloat16, float32, or auto: bfloat16 on a GPU."""
    threads: Count | None = None
    """Threads of the processor; default: as many as torch finds."""
    log_every: Count = 20
    """Steps between two lines of the log."""
    save_every: Count = 200
    """Steps between two checkpoints."""
    evaluate_every: Count = 200
    """Steps between two measurements on held-out samples."""


class LMModelOptions(SettingsModel):
    """[model]: what is trained, as a whole or by an adapter."""

    base: str | None = None
    """The model to begin from: a directory or a Hugging Face id."""
    from_scratch: str | None = None
    """Train a small model from nothing: tiny or small."""
    adapter: Literal["none", "lora"] = "none"
    """none trains all weights, lora an adapter."""
    rank: Count = 16
    """The adapter's rank."""
    alpha: Count = 32
    """The adapter's scale."""
    dropout: BelowOne = 0.0
    """Dropout before the adapter."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.base is None) == (self.from_scratch is None):
            raise ValueError("[model] give one of base and from_scratch")
        if self.from_scratch is not None and self.from_scratch not in SIZES:
            raise ValueError(f"[model] {unknown('from_scratch', self.from_scratch, SIZES)}")
        if self.from_scratch is not None and self.adapter != "none":
            raise ValueError("[model] an adapter needs a base; from_scratch trains all weights")
        return self


class LMDataOptions(SettingsModel):
    """[data]: the samples."""

    samples: Count = 228_000
    """Histories to train on."""
    landscapes: Fraction = 0.5
    """The share of samples from synthetic landscapes; the rest is from the tables evenly."""
    tables: tuple[TableChoice, ...] = ()
    """Tabular benchmarks to draw samples from, as [[data.tables]]."""
    positions: Range = (3, 20)
    """Positions of a sample's space, least and most."""
    options: Annotated[int, Field(ge=2, le=36, strict=True)] = 10
    """Most options of a position."""
    architectures: Range = (100, 200)
    """Architectures of a sample's subspace, least and most."""
    history: Range = (5, 200)
    """Trials in a history, least and most."""
    candidates: Annotated[int, Field(ge=2, strict=True)] = 10
    """Candidates in a sample."""
    questions: Count = 1
    """Sets of candidates after one history, each of which sees the history alone."""
    ramp: Fraction = 0.0
    """The share of the samples over which histories and candidates grow from two."""
    held_out: Count = 200
    """Samples for measuring, never trained on."""

    @field_validator("positions", "architectures", "history")
    @classmethod
    def _rises(cls, value: tuple[int, int]) -> tuple[int, int]:
        if value[0] > value[1]:
            raise ValueError(f"{list(value)}; accepted: [least, most]")
        return value

    @model_validator(mode="after")
    def _room(self) -> Self:
        least = self.history[0] + self.candidates
        if self.architectures[0] < least:
            raise ValueError(
                f"[data] architectures = {list(self.architectures)}: a subspace needs {least} at "
                "least, for the history and the candidates"
            )
        if not self.tables and not self.landscapes:
            raise ValueError("[data] landscapes = 0 needs [[data.tables]]")
        return self


class LMOptimizerOptions(SettingsModel):
    """[optimizer]: AdamW; a step takes `batch` x `accumulation` x devices samples."""

    learning_rate: Positive = 1e-5
    """The largest learning rate."""
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    """How the learning rate changes."""
    warmup: BelowOne = 0.1
    """The share of the steps in which the learning rate rises."""
    weight_decay: NotNegative = 0.0
    """AdamW's weight decay."""
    beta2: BelowOne = 0.999
    """AdamW's second decay rate."""
    epochs: Positive = 1.0
    """Passes over the samples."""
    batch: Count = 1
    """Samples a device and pass."""
    accumulation: Count = 8
    """Passes a step."""
    gradient_checkpointing: bool = False
    """Less memory for more time."""
    cutoff: Annotated[int, Field(ge=64, strict=True)] = 20_480
    """Most tokens of a prompt with its answer; the worst of the history are dropped first."""


class LMTrainConfig(LMRunOptions, LMModelOptions, LMDataOptions, LMOptimizerOptions):
    """Everything that a training depends on."""

    ROLE: ClassVar = "train-ranker lm"

    @property
    def product(self) -> Path:
        """Where the trained model or adapter goes."""
        return self.out / ("adapter" if self.adapter == "lora" else "model")

    @property
    def fixed(self) -> dict[str, Any]:
        """What a checkpoint was trained with and must go on with."""
        return {name: value for name, value in self.to_json().items() if name not in FREE}

    @property
    def shape(self) -> Shape:
        """The samples' sizes."""
        limits = Limits(self.positions, self.options, self.architectures)
        return Shape(limits, self.history, self.candidates, self.questions)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**self.model_dump(), "out": str(self.out), "tables": [*map(dict, self.tables)]}
