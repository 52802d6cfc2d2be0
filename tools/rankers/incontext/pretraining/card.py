"""The model card of trained weights: only facts that were recorded or measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from lm_searcher.tools.rankers.incontext.pretraining.settings import TrainConfig

PACKAGES = ("lm-searcher", "torch", "transformers", "numpy")
MARKS = ("10", "25", "50", "100", "all")


@dataclass(frozen=True)
class TrainingCost:
    """What a training has cost so far."""

    command: str
    seconds: float
    steps: int
    tasks: int
    machines: Sequence[str]
    """From `hardware`; one for each kind of machine that took part."""
    parameters: int


def hardware(device: str) -> str:
    """A description of the machine: device, processor, cores, system; no host name."""
    processor = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux
    found = f"{processor}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    if device.startswith("cuda"):
        found = f"{torch.cuda.get_device_name(device)}; {found}"
    return found


def model_card(config: TrainConfig, cost: TrainingCost, regret: Mapping[str, float]) -> str:
    """The card in Markdown. `regret` is from `objective.validate`."""
    facts = _facts(config, cost)
    rows = [
        f"| {name} | " + " | ".join(f"{regret[prefix + mark]:.3f}" for mark in MARKS) + " |"
        for name, prefix in (
            ("best head (probability of being the best)", ""),
            ("value head (how good)", "value "),
        )
    ]
    return f"""---
library_name: transformers
tags: [neural-architecture-search, in-context-learning, ranking]
---
# An in-context ranker of lm-searcher

Reads a history of (architecture, score) and scores candidates, on any space of up to 64 positions
of up to 36 options. {cost.parameters:,} parameters. Use: `[ranker]` `name = "local"`,
`weights = "..."` (this folder).

{facts}

## Held-out synthetic tasks
Pick regret, (best - picked) / (best - median) of 256 candidates, {config.validation_tasks} steps of
searches each (tasks drawn as in training, with another seed):

| head | after 10 | 25 | 50 | 100 trials | mean |
|---|---|---|---|---|---|
{chr(10).join(rows)}
"""


def _facts(config: TrainConfig, cost: TrainingCost) -> str:
    precision = "bfloat16 autocast" if config.bfloat16 else "float32"
    used = f"{config.workers} workers, {config.threads} threads, {precision}"
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    facts = {
        "Trained on": "synthetic landscapes only (`spaces/landscapes/tasks.py`), "
        "on no table of results.",
        "Command": f"`{cost.command or 'pretrain() from Python'}`",
        "Settings": ", ".join(f"{name} {value}" for name, value in config.fixed.items()),
        "Seed": f"{config.seed}. The stream of tasks is seeded; the learning rate follows the "
        "clock, so two trainings differ.",
        "Hardware": f"{'; then '.join(cost.machines)}; {used}",
        "Spent": f"{cost.seconds / 3600:.2f} hours: {cost.steps:,} steps, {cost.tasks:,} "
        "simulated search steps",
        "Versions": f"Python {platform.python_version()}, {packages}",
    }
    return "\n".join(f"- **{name}** {fact}" for name, fact in facts.items())
