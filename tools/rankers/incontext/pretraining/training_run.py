"""One pre-training: the network, its averaged weights, the optimizer, and the cost so far."""

from __future__ import annotations

import json
import math
import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from lm_searcher.spaces.errors import TrainingError
from lm_searcher.tools.rankers.incontext.model import InContextConfig, InContextModel
from lm_searcher.tools.rankers.incontext.pretraining.card import (
    TrainingCost,
    hardware,
    model_card,
)
from lm_searcher.tools.rankers.incontext.pretraining.checkpoint import load_state, save_state
from lm_searcher.tools.rankers.incontext.pretraining.episodes import Episodes, stream
from lm_searcher.tools.rankers.incontext.pretraining.objective import (
    held_out,
    listwise_loss,
    move,
    validate,
)
from lm_searcher.tools.rankers.incontext.pretraining.searches import Episode
from lm_searcher.tools.rankers.incontext.pretraining.settings import TrainConfig


@dataclass(frozen=True)
class PretrainingProgress:
    """The progress of a pre-training; its fields are those of a line of `log.jsonl`."""

    step: int
    tasks: int
    loss: float | None
    """The mean of the last hundred steps; None before the first."""
    rate: float
    """The learning rate."""
    seconds: float
    """Seconds of training so far, over all resumptions."""
    left: float
    """Seconds of training that remain."""
    regret: dict[str, float] | None = None
    """Held-out pick regret, if it has just been measured; see `objective.validate`."""


class Pretraining:
    """A pre-training; continues from the checkpoint in `config.out` if there is one.

    Raises TrainingError for a checkpoint that cannot be used.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        sizes = {
            name: getattr(config, name) for name in ("width", "option_width", "layers", "heads")
        }
        shape = InContextConfig(**sizes, exploration=config.courage)
        torch.manual_seed(config.seed)
        self.model = InContextModel(shape)
        self.average = InContextModel(shape)
        for network in (self.model, self.average):
            nn.Module.to(network, config.device)
        self.average.load_state_dict(self.model.state_dict())
        self.optimizer = self._optimizer()
        self.step, self.tasks, self.seconds = 0, 0, 0.0
        self.machines = [hardware(config.device)]
        self.losses: deque[float] = deque(maxlen=100)
        if state := load_state(config.out, config.fixed):
            self._resume(state)

    def _optimizer(self) -> torch.optim.Optimizer:
        """AdamW; no weight decay on norms, biases and vectors."""
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": self.config.weight_decay},
            {"params": others},
        ]
        return torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.98))

    def _resume(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.tasks, self.seconds = state["step"], state["tasks"], state["seconds"]
        self.machines = list(dict.fromkeys([*state["machines"], *self.machines]))

    @property
    def left(self) -> float:
        """Seconds of training that remain."""
        return max(0.0, 60 * self.config.minutes - self.seconds)

    @property
    def time_share(self) -> float:
        """The share of the training time that is spent, 0 to 1."""
        return min(1.0, self.seconds / (60 * self.config.minutes))

    def rate(self) -> float:
        """The learning rate now: a linear warm-up, then a cosine decay to almost 0."""
        share, warmup = self.time_share, self.config.warmup
        if share < warmup:
            return self.config.lr * (share / warmup + 1e-3)
        rest = (share - warmup) / (1 - warmup)
        return self.config.lr * (0.5 + 0.5 * math.cos(math.pi * rest)) + 1e-6

    def learn(self, episode: Episode) -> None:
        """One optimizer step. Raises TrainingError if the loss is not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        device = self.config.device
        kind = torch.device(device).type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self.config.bfloat16):
            scores = self.model(move(episode.inputs, device))
        loss = listwise_loss(scores, episode.values.to(device))
        if not math.isfinite(float(loss.detach())):
            raise TrainingError(
                f"the loss is {float(loss.detach())} at step {self.step}: choose a lower "
                "[optimizer] lr; the last checkpoint is from before"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.tasks += len(episode.values)
        self.losses.append(float(loss.detach()))
        # Early in a training the average covers all steps so far, not the last 1 / (1 - average).
        keep = min(self.config.average, 1 - 1 / (1 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.model.parameters()), 1 - keep
            )

    def progress(self, regret: dict[str, float] | None = None) -> PretrainingProgress:
        """The progress now."""
        loss = float(np.mean(self.losses)) if self.losses else None
        return PretrainingProgress(
            self.step, self.tasks, loss, self.rate(), self.seconds, self.left, regret
        )

    def save(self) -> None:
        """Write a checkpoint."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "tasks": self.tasks,
            "seconds": self.seconds,
            "machines": self.machines,
        }
        save_state(self.config.out, state, self.config.fixed)

    @cached_property
    def _held_out(self) -> dict[int, list[Episode]]:
        return held_out(self.config.validation_tasks)

    def validate(self) -> PretrainingProgress:
        """Measure the pick regret on the held-out tasks, and append it to `log.jsonl`."""
        progress = self.progress(validate(self.average, self._held_out, self.config.device))
        with (self.config.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(vars(progress)) + "\n")
        return progress

    def write_weights(self, command: str, regret: dict[str, float]) -> None:
        """Write the averaged weights and their model card to `out`/weights."""
        folder, part = self.config.out / "weights", self.config.out / "weights.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        self.average.config.save_pretrained(part)
        tensors = {k: v.contiguous().cpu() for k, v in self.average.state_dict().items()}
        save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})
        sizes = sum(p.numel() for p in self.average.parameters())
        cost = TrainingCost(command, self.seconds, self.step, self.tasks, self.machines, sizes)
        (part / "README.md").write_text(model_card(self.config, cost, regret))
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)

    def episodes(self) -> Iterator[Episode]:
        """The stream of training batches. A resumed training draws new ones."""
        config = self.config
        seed = config.seed * 1_000_003 + self.step
        return stream(Episodes(seed, config.tokens, config.candidates), config.workers)
