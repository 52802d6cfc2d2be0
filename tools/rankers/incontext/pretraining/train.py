"""Pre-training of the in-context ranker on synthetic landscapes: `lm-searcher train-ranker
incontext`.

Batches are streamed from worker processes, nothing is stored. The state is written every few
minutes, and a training goes on from there. Validation is the regret of the pick among 256
candidates on a fixed set of held-out tasks. The averaged weights are saved for `load_model`.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader

from lm_searcher.spaces.errors import TrainingError
from lm_searcher.tools.rankers.incontext.model import InContextConfig, InContextModel
from lm_searcher.tools.rankers.incontext.pretraining.card import Spent, hardware, model_card
from lm_searcher.tools.rankers.incontext.pretraining.checkpoint import (
    STATE,
    alone,
    load_state,
    save_state,
)
from lm_searcher.tools.rankers.incontext.pretraining.episodes import Episodes
from lm_searcher.tools.rankers.incontext.pretraining.objective import (
    held_out,
    listwise_loss,
    move,
    validate,
)
from lm_searcher.tools.rankers.incontext.pretraining.searches import Episode
from lm_searcher.tools.rankers.incontext.pretraining.settings import TrainConfig

TOLD_EVERY = 0.5
"""Seconds between two moments that are told."""


@dataclass(frozen=True)
class Moment:
    """How a training stands."""

    step: int
    tasks: int
    loss: float | None
    """Mean of the last hundred steps; None before the first."""
    rate: float
    """The learning rate."""
    seconds: float
    """Spent in training, over all resumptions."""
    left: float
    """Seconds of training to come."""
    regret: dict[str, float] | None = None
    """Held-out pick regret, where it has just been measured."""


class Run:
    """A training: the model, its running average, the optimiser, and what was spent.

    Goes on from the checkpoint in `config.out` if there is one. Raises TrainingError.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        names = ("width", "option_width", "layers", "heads", "courage")
        shape = InContextConfig(**{name: getattr(config, name) for name in names})
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
            self._go_on(state)

    def _optimizer(self) -> torch.optim.Optimizer:
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": self.config.weight_decay},
            {"params": others},
        ]
        return torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.98))

    def _go_on(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.tasks, self.seconds = state["step"], state["tasks"], state["seconds"]
        self.machines = list(dict.fromkeys([*state["machines"], *self.machines]))

    @property
    def left(self) -> float:
        """Seconds of training to come."""
        return max(0.0, 60 * self.config.minutes - self.seconds)

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

    def learn(self, episode: Episode) -> None:
        """One step. Raises TrainingError once the loss is no number."""
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
        keep = min(self.config.average, 1 - 1 / (1 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.model.parameters()), 1 - keep
            )

    def moment(self, regret: dict[str, float] | None = None) -> Moment:
        """How the training stands now."""
        loss = float(np.mean(self.losses)) if self.losses else None
        return Moment(self.step, self.tasks, loss, self.rate(), self.seconds, self.left, regret)

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

    def validate(self) -> Moment:
        """Pick regret on the held-out tasks, also written to `log.jsonl`."""
        moment = self.moment(validate(self.average, self._held_out, self.config.device))
        with (self.config.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(vars(moment)) + "\n")
        return moment

    def write_weights(self, command: str, regret: dict[str, float]) -> None:
        """The averaged weights and their model card, as `out`/weights."""
        folder, part = self.config.out / "weights", self.config.out / "weights.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        self.average.config.save_pretrained(part)
        tensors = {k: v.contiguous().cpu() for k, v in self.average.state_dict().items()}
        save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})
        sizes = sum(p.numel() for p in self.average.parameters())
        spent = Spent(command, self.seconds, self.step, self.tasks, self.machines, sizes)
        (part / "README.md").write_text(model_card(self.config, spent, regret))
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)

    def episodes(self) -> Iterator[Episode]:
        """The stream of tasks. A training that goes on draws others than those it has seen."""
        config = self.config
        seed = config.seed * 1_000_003 + self.step
        return iter(
            DataLoader(
                Episodes(seed, config.tokens, config.candidates),
                batch_size=None,
                num_workers=config.workers,
                prefetch_factor=4 if config.workers else None,
                worker_init_fn=_ignore_ctrl_c,
            )
        )


def train(
    config: TrainConfig,
    command: str = "",
    observe: Callable[[Moment], None] = lambda moment: None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train until the time is spent, and write the weights; or until `stop` says so.

    Whether it has finished; if not, a checkpoint is written and another call goes on.
    `command` is what the model card says was run. Raises TrainingError.
    """
    if config.device not in (accepted := _devices()):
        raise TrainingError(f"no device '{config.device}' here (accepted: {', '.join(accepted)})")
    torch.set_num_threads(config.threads)
    with alone(config.out):
        if (weights := config.out / "weights").exists() and not (config.out / STATE).exists():
            raise TrainingError(
                f"'{weights}' is there, and no checkpoint that it came from: move it away, or "
                "choose another --out"
            )
        run = Run(config)
        if run.left:
            _train(run, observe, stop)
        if run.left:
            return False
        last = run.validate()
        observe(last)
        assert last.regret is not None
        run.write_weights(command, last.regret)
        return True


def _train(run: Run, observe: Callable[[Moment], None], stop: Callable[[], bool]) -> None:
    """Steps until the time is spent or `stop` says so, checkpoints among and after them."""
    config, episodes = run.config, run.episodes()
    before = saved = validated = told = time.monotonic()
    while run.left and not stop():
        run.learn(next(episodes))
        now = time.monotonic()
        run.seconds, before = run.seconds + now - before, now
        if now - told > TOLD_EVERY:
            observe(run.moment())
            told = now
        if run.left and now - validated > config.validate_every:
            observe(run.validate())
            validated = before = time.monotonic()  # validation is not counted as training
        if now - saved > config.save_every:
            run.save()
            saved = now
    run.save()


def _ignore_ctrl_c(worker: int) -> None:
    """Ctrl-C reaches the workers too; it is the training's to end them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _devices() -> list[str]:
    if not torch.cuda.is_available():
        return ["cpu"]
    return ["cpu", "cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
