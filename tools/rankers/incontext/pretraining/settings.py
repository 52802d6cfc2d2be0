"""How the in-context ranker is trained: every setting with its default."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

PRESETS = Path(__file__).parent / "presets"

FREE = ("out", "minutes", "workers", "threads")
"""What may change when a training goes on: where it lies, how long it takes, what it runs on."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training. The command line checks the values (agent/settings/train_ranker.py)."""

    out: Path
    minutes: float = 60.0
    """Time spent in training altogether, over all resumptions."""
    tokens: int = 2600
    """Trials and candidates a batch."""
    candidates: int = 64
    lr: float = 2e-3
    warmup: float = 0.02
    """The share of the time in which the learning rate rises."""
    weight_decay: float = 0.02
    average: float = 0.999
    """How much of the running average of the weights a step keeps."""
    seed: int = 0
    workers: int = 1
    """Processes that make up tasks; 0 makes them between the steps."""
    threads: int = 1
    save_every: float = 120.0
    """Seconds between checkpoints."""
    validate_every: float = 300.0
    device: str = "cpu"
    precision: str = "auto"
    """float32, bfloat16 (autocast), or auto: bfloat16 where the device is cuda."""
    width: int = 112
    option_width: int = 48
    layers: int = 4
    heads: int = 4
    courage: float = 0.0
    """See InContextModel.promise; written into the weights' config.json, not trained."""
    validation_tasks: int = 96
    """Held-out moments after each number of trials."""

    @property
    def bfloat16(self) -> bool:
        """Whether the network computes in bfloat16 while it is trained."""
        auto = self.precision == "auto" and self.device.startswith("cuda")
        return auto or self.precision == "bfloat16"

    @property
    def fixed(self) -> dict[str, Any]:
        """What a checkpoint was trained with and must go on with."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name not in FREE}
