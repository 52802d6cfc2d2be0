"""The evaluator of LoRA searches: adapters with the ranks of an NCode on a frozen base."""

from __future__ import annotations

import importlib
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import EvaluatorError, SpaceError, TrialFailure
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.evaluators.lora.task import Task
from lm_searcher.tools.evaluators.seeding import seed_generators
from lm_searcher.tools.evaluators.training.cost import formula_costs
from lm_searcher.tools.protocols import Evaluation, Metrics, Report


@dataclass
class LoraEvaluator:
    """Adds LoRA adapters (peft) to the task's base; the task trains and scores them.

    Metrics besides the task's:
    lora_params_m     the adapters' parameters, in millions
    trainable_share   their share of all parameters of the adapted model
    seconds           of training and scoring, without making or loading the base
    memory_mb         on a CUDA device the peak that was allocated, in 10**6 bytes; on a CPU the
                      growth of the trial's process at its peak, without the data and libraries
                      that the worker had loaded before; left out if it cannot be measured
    With all ranks 0, the base itself is scored and nothing is trained.
    """

    space: SearchSpace
    task: Task
    metric: str = ""
    """Default: the task's."""
    deterministic: bool = False
    inline: bool = False

    def __post_init__(self) -> None:
        self.metric = self.metric or self.task.metric

    @property
    def direction(self) -> str:
        """See Evaluator."""
        return self.task.direction

    def identity(self) -> dict[str, Any]:
        """The task's identity, and the settings of the space."""
        return {"kind": "lora", **self.task.identity(), "settings": dict(self.space.settings)}

    @property
    def note(self) -> str:
        """See SlowlyPreparedEvaluator."""
        base = self.task.own_base
        if base is None or base.path(self.task.settings.cache).exists():
            return ""
        return f"training the base 'builtin:{base.name}' first, once; it is kept"

    def prepare(self) -> None:
        """Import peft, prepare the task. Runs no torch operation. Raises UserError."""
        if "targets" not in self.space.settings:
            raise EvaluatorError(
                f"evaluator 'lora' adapts a base's modules, which space '{self.space.name}' does "
                'not name; accepted: space "lora"'
            )
        base = self.space.settings["base"]
        if base != self.task.settings.base:
            raise EvaluatorError(
                f"base '{base}' of the space differs from base '{self.task.settings.base}' of the "
                "task"
            )
        # Trials are forked from this process, so what `evaluate` needs is imported once, here.
        importlib.import_module("lm_searcher.spaces.lora.network")

        self.task.prepare()

    def costs(self, codes: Codes, metrics: Collection[str]) -> Mapping[str, NDArray[np.float64]]:
        """See CostedEvaluator."""
        return formula_costs(self.space, {}, codes, metrics)

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        """Adapt, train, score. Raises TrialFailure for a training that diverged."""
        from lm_searcher.spaces.lora.network import attach
        from lm_searcher.tools.evaluators.lora.memory import Peak

        peak = Peak()
        seed_generators(evaluation.seed)
        model = self.task.base()
        attach(model, self._adapters(model, evaluation))
        sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
        added = sum(size for size, trained in sizes if trained)
        started = time.monotonic()
        metrics = dict(self.task.fit(model, seed=evaluation.seed, report=report))
        metrics["seconds"] = time.monotonic() - started
        metrics["lora_params_m"] = added / 1e6
        metrics["trainable_share"] = added / sum(size for size, _ in sizes)
        if (memory := peak.megabytes()) is not None:
            metrics["memory_mb"] = memory
        return metrics

    def _adapters(self, model: Any, evaluation: Evaluation) -> dict[str, tuple[int, float]]:
        from lm_searcher.spaces.lora.space import Adapters

        settings = {k: self.space.settings[k] for k in ("targets", "group", "alpha")}
        try:
            adapters = Adapters.on(model, **settings)
            return adapters.of(evaluation.config)
        except SpaceError as error:
            raise TrialFailure(f"the task's base does not match the space: {error}") from None
        except KeyError as error:
            raise TrialFailure(
                f"the task's base does not match the space, which has no {error}"
            ) from None
