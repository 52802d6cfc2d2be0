"""Supervised fine-tuning of a ranking language model with transformers' Trainer:
`lm-searcher train-ranker lm`.

The loss is on the answers only. The same command continues from the last complete checkpoint.
Sample i is the same in every process, so an interrupted training sees the samples of an
uninterrupted one. Several processes (`accelerate launch`) share the samples.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from lm_searcher.spaces.errors import TrainingError, first_line
from lm_searcher.tools.rankers.incontext.pretraining.checkpoint import training_lock
from lm_searcher.tools.rankers.lm.finetuning.card import model_card
from lm_searcher.tools.rankers.lm.finetuning.encode import Encoded, collate
from lm_searcher.tools.rankers.lm.finetuning.measure import PickMetrics
from lm_searcher.tools.rankers.lm.finetuning.model import TrainableModel, trainable_model
from lm_searcher.tools.rankers.lm.finetuning.progress import (
    FinetuningCallback,
    FinetuningProgress,
    TrainingState,
    last_checkpoint,
)
from lm_searcher.tools.rankers.lm.finetuning.settings import LMTrainConfig
from lm_searcher.tools.rankers.lm.finetuning.training_data import (
    SampleStream,
    TrainingData,
    training_data_of,
)

if TYPE_CHECKING:
    from transformers import Trainer

CHECKPOINTS = "checkpoints"


def finetune(
    config: LMTrainConfig,
    command: str = "",
    observe: Callable[[FinetuningProgress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
    data: TrainingData | None = None,
) -> bool:
    """Train to the end and write the model, or until `stop` returns True.

    Returns whether the training has finished, in this call or an earlier one. If not, a
    checkpoint is written, and another call continues. `command` is the command in the model
    card. `data` defaults to the data that `config` describes. Raises TrainingError, TableError,
    RankerError.
    """
    main = _is_main(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    with training_lock(config.out) if main else contextlib.nullcontext():
        data = data or training_data_of(config)
        state = TrainingState.of(config, data.description)
        checkpoint = last_checkpoint(config.out / CHECKPOINTS)
        if state.step and checkpoint is None and config.product.is_dir():
            return True
        trained = trainable_model(config)
        callback = FinetuningCallback(config, trained, data.held_out, state, observe, stop)
        trainer = _trainer(config, trained, data.samples, callback)
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            if checkpoint is None or callback.begun:
                raise
            raise TrainingError(
                f"checkpoint '{checkpoint}' does not load ({first_line(error, 150)}); remove it to "
                "go on from the one before, or choose another --out"
            ) from error
        if trainer.state.global_step < trainer.state.max_steps:
            return False
        if main:
            _write(config, trained, command, data.description, state, callback.metrics())
        return True


def _is_main(config: LMTrainConfig) -> bool:
    from accelerate import PartialState

    return bool(PartialState(cpu=config.device == "cpu").is_main_process)


def _trainer(
    config: LMTrainConfig,
    trained: TrainableModel,
    samples: SampleStream,
    callback: FinetuningCallback,
) -> Trainer:
    from transformers import PrinterCallback, Trainer, TrainingArguments

    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(config.out / CHECKPOINTS),
        seed=config.seed,
        data_seed=config.seed,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch,
        gradient_accumulation_steps=config.accumulation,
        activation_checkpointing=config.gradient_checkpointing,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        adam_beta2=config.beta2,
        bf16=on_gpu and config.precision != "float32",
        use_cpu=config.device == "cpu",
        logging_steps=config.log_every,
        save_steps=config.save_every,
        save_total_limit=2,
        save_strategy="steps",
        dataloader_pin_memory=on_gpu,
        remove_unused_columns=False,
        train_sampling_strategy="sequential",  # samples are random already, and may grow
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )
    padding = trained.tokenizer.pad_token_id
    trainer = Trainer(
        model=cast(Any, trained.model),
        args=arguments,
        train_dataset=cast(Any, Encoded(samples, config.samples, trained.tokenizer, config.cutoff)),
        data_collator=lambda examples: collate(examples, 0 if padding is None else padding),
        callbacks=[callback],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _write(
    config: LMTrainConfig,
    trained: TrainableModel,
    command: str,
    data: str,
    state: TrainingState,
    metrics: PickMetrics,
) -> None:
    """Write the model or adapter, its tokenizer and its card, all or nothing."""
    part = config.product.with_name(config.product.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    trained.model.save_pretrained(str(part), safe_serialization=True)
    trained.tokenizer.save_pretrained(str(part))
    card = model_card(config, trained, command, data, state, metrics)
    (part / "README.md").write_text(card)
    shutil.rmtree(config.product, ignore_errors=True)
    part.replace(config.product)
    shutil.rmtree(Path(config.out) / CHECKPOINTS, ignore_errors=True)
