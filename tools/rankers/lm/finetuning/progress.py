"""A training as it happens: told, measured, stopped in good order, and found again."""

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
from lm_searcher.tools.rankers.lm.finetuning.measure import Figures, measure
from lm_searcher.tools.rankers.lm.finetuning.model import Trained
from lm_searcher.tools.rankers.lm.finetuning.samples import Sample
from lm_searcher.tools.rankers.lm.finetuning.settings import LMTrainConfig

SPENT, LOG = "training.json", "log.jsonl"


@dataclass(frozen=True)
class Moment:
    """How a training stands."""

    step: int
    steps: int
    loss: float | None
    """Of a token of the answers, since the moment before; None where it was not told."""
    rate: float
    """The learning rate."""
    seconds: float
    """Spent in training, over all resumptions."""
    left: float
    """Seconds to come, at the pace so far."""
    figures: Figures | None = None
    """On the held-out set, where it has just been measured."""


@dataclass
class Spent:
    """What a training has taken so far; beside the checkpoints, with the settings it began with."""

    path: Path
    settings: dict[str, Any]
    seconds: float = 0.0
    step: int = 0
    machines: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, config: LMTrainConfig, data: str) -> Self:
        """As an earlier process left it. Raises TrainingError if that had other settings."""
        settings = {**config.fixed, "data": data}
        spent = cls(config.out / SPENT, settings)
        if spent.path.exists():
            try:
                stored = json.loads(spent.path.read_text())
                spent.seconds, spent.step = float(stored["seconds"]), int(stored["step"])
                spent.machines = list(stored["machines"])
                begun = dict(stored["settings"])
            except (OSError, ValueError, KeyError, TypeError):
                raise TrainingError(f"'{spent.path}' is damaged; choose another --out") from None
            now = json.loads(json.dumps(settings))
            if changed := [k for k in now if begun.get(k) != now[k]]:
                raise TrainingError(
                    f"training in '{config.out}' began with {changed[0]} = "
                    f"{begun.get(changed[0])!r}, not {now[changed[0]]!r}: go on with the same "
                    "settings, or choose another --out"
                )
        machine = hardware("cpu" if config.device == "cpu" else _device())
        spent.machines = list(dict.fromkeys([*spent.machines, machine]))
        return spent

    def save(self) -> None:
        """Write it, whole or not at all."""
        document = {k: getattr(self, k) for k in ("seconds", "step", "machines", "settings")}
        write_atomically(self.path, json.dumps(document, indent=1))


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def last_checkpoint(folder: Path) -> Path | None:
    """The latest whole checkpoint. What a killed process left unfinished is removed."""
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


class Progress(TrainerCallback):
    """Tells moments, measures on the held-out set, and stops the Trainer when it is told to."""

    def __init__(
        self,
        config: LMTrainConfig,
        trained: Trained,
        held_out: Sequence[Sample],
        spent: Spent,
        observe: Callable[[Moment], None],
        stop: Callable[[], bool],
    ) -> None:
        self.config, self.trained, self.held_out = config, trained, held_out
        self.spent, self.observe, self.stop = spent, observe, stop
        self.begun = False
        self._figures: tuple[int, Figures] | None = None
        self._clock, self._step = time.monotonic(), 0

    def measured(self) -> Figures:
        """The figures of the model as it is now."""
        if self._figures is None or self._figures[0] != self._step:
            model, tokenizer = self.trained.causal, self.trained.tokenizer
            self._figures = self._step, measure(model, tokenizer, self.held_out, self.config.cutoff)
        return self._figures[1]

    def _moment(self, state: TrainerState, loss: float | None, figures: Figures | None) -> Moment:
        step, seconds = state.global_step, self.spent.seconds
        left = seconds / step * (state.max_steps - step) if step else 0.0
        rates = [entry["learning_rate"] for entry in state.log_history if "learning_rate" in entry]
        rate = rates[-1] if rates else 0.0
        return Moment(step, state.max_steps, loss, rate, seconds, left, figures)

    def _write(self, moment: Moment) -> None:
        figures = moment.figures.to_json() if moment.figures else None
        line = {**vars(moment), "seconds": round(moment.seconds, 1), "figures": figures}
        line.pop("left")
        with (self.config.out / LOG).open("a") as file:
            file.write(json.dumps(line) + "\n")

    # -- what the Trainer calls ------------------------------------------------------------------

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
        self.spent.seconds += now - self._clock
        self.spent.step = self._step = state.global_step
        if state.is_world_process_zero:
            last = state.global_step >= state.max_steps
            if last or state.global_step % self.config.evaluate_every == 0:
                moment = self._moment(state, None, self.measured())
                self._write(moment)
                self.observe(moment)
        if self.stop():
            control.should_save = control.should_training_stop = True
        self._clock = time.monotonic()  # measuring is not counted as training

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
            moment = self._moment(state, float(logs["loss"]), None)
            self._write(moment)
            self.observe(moment)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """See TrainerCallback."""
        if state.is_world_process_zero:
            self.spent.save()
