"""Pre-training of the in-context ranker on synthetic landscapes.

    python -m lm_searcher.tools.rankers.incontext.train --out DIR --minutes 60

Batches are streamed from worker processes, nothing is stored. The state is written to DIR every
few minutes; the same command goes on from there. Validation is the regret of the pick among 256
candidates on a fixed set of held-out tasks. The averaged weights are saved for `from_pretrained`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from lm_searcher.tools.rankers.incontext.episodes import Episodes
from lm_searcher.tools.rankers.incontext.model import InContextConfig, InContextModel
from lm_searcher.tools.rankers.incontext.objective import held_out, listwise_loss, move, validate
from lm_searcher.tools.rankers.incontext.searches import Episode


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How to train; the command line has a flag for each."""

    out: str
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
    seed: int = 0
    workers: int = 1
    threads: int = 1
    save_every: float = 120.0
    validate_every: float = 300.0
    device: str = "cpu"
    width: int = 112
    option_width: int = 48
    layers: int = 4
    heads: int = 4
    validation_tasks: int = 96


class Run:
    """A training run: the model, its running average, the optimiser, and what was spent."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        sizes = ("width", "option_width", "layers", "heads")
        shape = InContextConfig(**{k: getattr(config, k) for k in sizes})
        torch.manual_seed(config.seed)
        self.model = InContextModel(shape)
        self.average = InContextModel(shape)
        for network in (self.model, self.average):
            nn.Module.to(network, config.device)
        self.average.load_state_dict(self.model.state_dict())
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": others},
        ]
        self.optimizer = torch.optim.AdamW(
            groups,
            weight_decay=0.0,
            betas=(0.9, 0.98),
        )
        self.step, self.seconds, self.tasks = 0, 0.0, 0
        self.path = Path(config.out) / "state.pt"
        if self.path.exists():
            state: dict[str, Any] = torch.load(self.path, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds, self.tasks = state["step"], state["seconds"], state["tasks"]

    @property
    def progress(self) -> float:
        """The share of the time that is spent, 0 to 1."""
        return min(1.0, self.seconds / (60 * self.config.minutes))

    def rate(self) -> float:
        """The learning rate now: a rise, then a cosine down to nothing."""
        if self.progress < self.config.warmup:
            return self.config.lr * (self.progress / self.config.warmup + 1e-3)
        rest = (self.progress - self.config.warmup) / (1 - self.config.warmup)
        return self.config.lr * (0.5 + 0.5 * math.cos(math.pi * rest)) + 1e-6

    def learn(self, episode: Episode) -> float:
        """One step; the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        device = self.config.device
        scores = self.model(move(episode.inputs, device))
        loss = listwise_loss(scores, episode.values.to(device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.tasks += len(episode.values)
        keep = min(self.config.average, 1 - 1 / (1 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.model.parameters()), 1 - keep
            )
        return float(loss.detach())

    def save(self) -> None:
        """The state, whole or not at all, and the averaged weights for `from_pretrained`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "tasks": self.tasks,
        }
        part = self.path.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.path)
        self.average.save_pretrained(self.path.parent / "weights")


def train(config: TrainConfig) -> None:
    """Train until the time is spent, going on from the state in `config.out` if there is one."""
    torch.set_num_threads(config.threads)
    run = Run(config)
    sets = held_out(config.validation_tasks)
    # A resumed run draws other tasks than those it has seen.
    stream = Episodes(config.seed * 1_000_003 + run.step, config.tokens, config.candidates)
    loader = DataLoader(
        stream,
        batch_size=None,
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
    )
    log = Path(config.out) / "log.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    losses: list[float] = []
    began = saved = validated = time.monotonic()
    for episode in loader:
        losses.append(run.learn(episode))
        now = time.monotonic()
        run.seconds, began = run.seconds + now - began, now
        done = run.progress >= 1
        if run.step % 100 == 0 or done:
            left = 60 * config.minutes - run.seconds
            print(
                f"step {run.step}  tasks {run.tasks}  loss {np.mean(losses[-100:]):.4f}  "
                f"lr {run.rate():.2e}  {run.step / run.seconds:.1f} steps/s  left {left:.0f} s",
                flush=True,
            )
        if done or now - saved > config.save_every:
            run.save()
            saved = time.monotonic()
        if done or now - validated > config.validate_every:
            regret = validate(run.average, sets, config.device)
            entry = {"step": run.step, "seconds": round(run.seconds), "tasks": run.tasks}
            loss = round(float(np.mean(losses[-1000:])), 4)
            line = json.dumps({**entry, "loss": loss, "regret": regret})
            print(line, flush=True)
            with log.open("a") as file:
                file.write(line + "\n")
            validated = time.monotonic()
            began = validated  # validation is not counted as training
        if done:
            return


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for field in dataclasses.fields(TrainConfig):
        needed = field.default is dataclasses.MISSING
        kind = str if needed else type(field.default)
        default = None if needed else field.default
        flag = f"--{field.name.replace('_', '-')}"
        parser.add_argument(flag, type=kind, default=default, required=needed)
    train(TrainConfig(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
