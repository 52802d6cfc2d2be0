"""What a training of a ranking language model is told, with its defaults."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lm_searcher.tools.rankers.lm.finetuning.samples import Shape
from lm_searcher.tools.rankers.lm.finetuning.subspace_samples import Limits

PRESETS = Path(__file__).parent / "presets"

FREE = ("out", "device", "threads", "log_every", "save_every", "evaluate_every")
"""What may change when a training goes on."""


@dataclass(frozen=True)
class TableChoice:
    """A tabular benchmark to draw samples from."""

    path: str
    metric: str
    direction: str | None = None
    """`max` or `min`; by default what the card says, else `max`."""


@dataclass(frozen=True)
class LMTrainConfig:
    """Everything that a training depends on. The values are the paper's where it gives them."""

    out: Path = Path("trained/lm")
    seed: int = 0
    device: str = "auto"
    """`auto`, `cpu` or `cuda`."""
    precision: str = "auto"
    """`bfloat16`, `float32`, or `auto`: bfloat16 on a GPU."""
    threads: int | None = None
    """Of the processor; by default as many as torch finds."""
    log_every: int = 20
    save_every: int = 200
    evaluate_every: int = 200
    """Steps."""

    base: str | None = None
    """A directory or a Hugging Face id."""
    from_scratch: str | None = None
    """A size of scratch.py instead of a base."""
    adapter: str = "none"
    """`none` trains all weights, `lora` an adapter."""
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0

    samples: int = 228_000
    landscapes: float = 0.5
    """The share of samples from synthetic landscapes; the rest is from the tables evenly."""
    tables: tuple[TableChoice, ...] = ()
    positions: tuple[int, int] = (3, 20)
    options: int = 10
    architectures: tuple[int, int] = (100, 200)
    history: tuple[int, int] = (5, 200)
    candidates: int = 10
    questions: int = 1
    """Sets of candidates after one history, each of which sees the history alone."""
    ramp: float = 0.0
    """The share of the samples over which histories and candidates grow from two."""
    held_out: int = 200

    learning_rate: float = 1e-5
    schedule: str = "cosine"
    warmup: float = 0.1
    weight_decay: float = 0.0
    beta2: float = 0.999
    epochs: float = 1.0
    batch: int = 1
    """Samples a device and pass."""
    accumulation: int = 8
    gradient_checkpointing: bool = False
    cutoff: int = 20_480
    """Most tokens of a prompt with its answer; the worst of the history goes first."""

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
        return {**asdict(self), "out": str(self.out), "tables": [asdict(t) for t in self.tables]}
