"""The model to train: a new small one, all weights of a base, or a LoRA adapter on a base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lm_searcher.spaces.errors import TrainingError
from lm_searcher.tools.llm.huggingface import load_base, load_tokenizer
from lm_searcher.tools.rankers.lm.finetuning.settings import LMTrainConfig
from lm_searcher.tools.rankers.lm.finetuning.tiny_model import CHAT_TEMPLATE, from_scratch
from lm_searcher.tools.transformers_output import hide_progress_bars

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class TrainableModel:
    """A model to train, with its tokenizer."""

    model: PreTrainedModel | PeftModel
    causal: PreTrainedModel
    """The causal language model, with the adapter if there is one."""
    tokenizer: PreTrainedTokenizerBase

    @property
    def parameters(self) -> tuple[int, int]:
        """The number of trainable parameters, and of all parameters."""
        sizes = [(p.numel(), p.requires_grad) for p in self.model.parameters()]
        return sum(n for n, trainable in sizes if trainable), sum(n for n, _ in sizes)


def trainable_model(config: LMTrainConfig) -> TrainableModel:
    """Make or load the model and its tokenizer. Raises RankerError, TrainingError."""
    hide_progress_bars()
    if config.from_scratch is not None:
        model, tokenizer = from_scratch(config.from_scratch, config.seed)
        return TrainableModel(model, model, tokenizer)
    if config.base is None:
        raise TrainingError("no model to train: give [model] base or from_scratch")
    lora = config.adapter == "lora"
    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    # Trainable weights stay in float32; a frozen base may be in bfloat16.
    low = lora and on_gpu and config.precision != "float32"
    base = load_base(config.base, torch.bfloat16 if low else torch.float32)
    tokenizer_of_base = load_tokenizer(config.base)
    if tokenizer_of_base.chat_template is None:
        tokenizer_of_base.chat_template = _begin_token(tokenizer_of_base) + CHAT_TEMPLATE
    if not lora:
        return TrainableModel(base, base, tokenizer_of_base)
    return TrainableModel(_with_lora(base, config), base, tokenizer_of_base)


def _begin_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that the tokenizer puts before a text, as a chat template; empty if none."""
    ids = tokenizer("0")["input_ids"]
    begins = tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]
    return "{{ bos_token }}" if begins else ""


def _with_lora(base: PreTrainedModel, config: LMTrainConfig) -> PeftModel:
    import peft

    from lm_searcher.tools.llm.adapter import attach

    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    if config.gradient_checkpointing:
        base.enable_input_require_grads()  # type: ignore[no-untyped-call]  # or no gradient reaches the checkpointed blocks
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return attach(base, settings)
