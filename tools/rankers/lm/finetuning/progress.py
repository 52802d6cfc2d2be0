"""The progress of a fine-tuning: its state on disk, its checkpoints, and the Trainer's callback."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lm_searcher.spaces.errors import TrainingError
from lm_searcher.tools.files import write_atomically
from lm_searcher.tools.rankers.incontext.pretraining.card import hardware
from lm_searcher.tools.rankers.lm.finetuning.measure import PickMetrics, measure_picks
from lm_searcher.tools.rankers.lm.finetuning.model import TrainableModel
from lm_searcher.tools.rankers.lm.finetuning.samples import Sample
from lm_searcher.tools.rankers.lm.finetuning.settings import LMTrainConfig

STATE, LOG = "training.json", "log.jsonl"


@dataclass(frozen=True)
class FinetuningProgress:
    """The progress of a fine-tuning; its fields but `left` are those of a line of `log.jsonl`."""

    step: int
    steps: int
    loss: float | None
    """Mean loss per answer token since the last report; None if not reported."""
    rate: float
    """The learning rate."""
    seconds: float
    """Seconds of training so far, over all resumptions."""
    left: float
    """Seconds that remain, at the pace so far."""
    figures: PickMetrics | None = None
    """On the held-out samples, if they have just been measured."""


@dataclass
class TrainingState:
    """The cost of a training so far, and its settings; a file beside the checkpoints."""

    path: Path
    settings: dict[str, Any]
    seconds: float = 0.0
    step: int = 0
    machines: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, config: LMTrainConfig, data: str) -> Self:
        """The state as an earlier process left it, or a new one.

        Raises TrainingError if the earlier training had other settings.
        """
        settings = {**config.fixed, "data": data}
        state = cls(config.out / STATE, settings)
        if state.path.exists():
            try:
                stored = json.loads(state.path.read_text())
                state.seconds, state.step = float(stored["seconds"]), int(stored["step"])
                state.machines = list(stored["machines"])
                begun = dict(stored["settings"])
            except (OSError, ValueError, KeyError, TypeError):
                raise TrainingError(f"'{state.path}' is damaged; choose another --out") from None
            now = json.loads(json.dumps(settings))  # tuples as lists, as they are stored
            if changed := [k for k in now if begun.get(k) != now[k]]:
                raise TrainingError(
                    f"training in '{config.out}' began with {changed[0]} = "
                    f"{begun.get(changed[0])!r}, not {now[changed[0]]!r}: go on with the same "
                    "settings, or choose another --out"
                )
        machine = hardware("cpu" if config.device == "cpu" else _device())
        state.machines = list(dict.fromkeys([*state.machines, machine]))
        return state

    def save(self) -> None:
        """Write the state atomically."""
        document = {k: getattr(self, k) for k in ("seconds", "step", "machines", "settings")}
        write_atomically(self.path, json.dumps(document, indent=1))


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def last_checkpoint(folder: Path) -> Path | None:
    """The latest complete checkpoint. Incomplete ones of a killed process are removed."""
    found = {}
    for path in folder.glob("checkpoint-*"):
        number = path.name.rpartition("-")[2]
        try:  # the Trainer writes its state last
            json.loads((path / "trainer_state.json").read_text())
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
            continue
        if number.isdigit():
            found[int(number)] = path
    return found[max(found)] if found else None


class FinetuningCallback(TrainerCallback):
    """Reports progress to `observe`, measures on `held_out`, and stops the Trainer on `stop`."""

    def __init__(
        self,
        config: LMTrainConfig,
        trained: TrainableModel,
        held_out: Sequence[Sample],
        state: TrainingState,
        observe: Callable[[FinetuningProgress], None],
        stop: Callable[[], bool],
    ) -> None:
        self.config, self.trained, self.held_out = config, trained, held_out
        self.state, self.observe, self.stop = state, observe, stop
        self.begun = False
        self._metrics: tuple[int, PickMetrics] | None = None
        self._clock, self._step = time.monotonic(), 0

    def metrics(self) -> PickMetrics:
        """The metrics of the model as it is now."""
        if self._metrics is None or self._metrics[0] != self._step:
            model, tokenizer = self.trained.causal, self.trained.tokenizer
            measured = measure_picks(model, tokenizer, self.held_out, self.config.cutoff)
            self._metrics = self._step, measured
        return self._metrics[1]

    def _report(
        self, trainer: TrainerState, loss: float | None, metrics: PickMetrics | None
    ) -> None:
        """Append the progress to the log, and pass it to `observe`."""
        step, seconds = trainer.global_step, self.state.seconds
        left = seconds / step * (trainer.max_steps - step) if step else 0.0
        rates = [e["learning_rate"] for e in trainer.log_history if "learning_rate" in e]
        rate = rates[-1] if rates else 0.0
        progress = FinetuningProgress(step, trainer.max_steps, loss, rate, seconds, left, metrics)
        figures = metrics.to_json() if metrics else None
        line = {**vars(progress), "seconds": round(seconds, 1), "figures": figures}
        line.pop("left")
        with (self.config.out / LOG).open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.observe(progress)

    # -- called by the Trainer -------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """See TrainerCallback."""
        self.begun = True
        self._clock, self._step = time.monotonic(), state.global_step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """See TrainerCallback."""
        now = time.monotonic()
        self.state.seconds += now - self._clock
        self.state.step = self._step = state.global_step
        if state.is_world_process_zero:
            last = state.global_step >= state.max_steps
            if last or state.global_step % self.config.evaluate_every == 0:
                self._report(state, None, self.metrics())
        if self.stop():
            control.should_save = control.should_training_stop = True
        self._clock = time.monotonic()  # measuring does not count as training

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """See TrainerCallback."""
        if state.is_world_process_zero and logs and "loss" in logs:
            self._report(state, float(logs["loss"]), None)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """See TrainerCallback."""
        if state.is_world_process_zero:
            self.state.save()
