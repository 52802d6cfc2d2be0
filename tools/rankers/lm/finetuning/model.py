"""The model that is trained: from nothing, all of a base, or an adapter on one."""

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
class Trained:
    """A model under training."""

    model: PreTrainedModel | PeftModel
    causal: PreTrainedModel
    """The causal language model itself, the adapter in it."""
    tokenizer: PreTrainedTokenizerBase

    @property
    def parameters(self) -> tuple[int, int]:
        """How many are trained, and how many there are."""
        sizes = [(p.numel(), p.requires_grad) for p in self.model.parameters()]
        return sum(n for n, learns in sizes if learns), sum(n for n, _ in sizes)


def trained_model(config: LMTrainConfig) -> Trained:
    """The model and tokenizer to train. Raises RankerError, TrainingError."""

    hide_progress_bars()
    if config.from_scratch is not None:
        model, tokenizer = from_scratch(config.from_scratch, config.seed)
        return Trained(model, model, tokenizer)
    if config.base is None:
        raise TrainingError("no model to train: give [model] base or from_scratch")
    lora = config.adapter == "lora"
    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    # What is trained stays in float32; a base that only carries an adapter need not.
    low = lora and on_gpu and config.precision != "float32"
    base = load_base(config.base, torch.bfloat16 if low else torch.float32)
    answering = load_tokenizer(config.base)
    if answering.chat_template is None:
        answering.chat_template = _start(answering) + CHAT_TEMPLATE
    if not lora:
        return Trained(base, base, answering)
    return Trained(_with_lora(base, config), base, answering)


def _start(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the tokenizer puts before a text, as a template."""
    ids = tokenizer("0")["input_ids"]
    begins = tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]
    return "{{ bos_token }}" if begins else ""


def _with_lora(base: PreTrainedModel, config: LMTrainConfig) -> PeftModel:
    import peft

    from lm_searcher.tools.rankers.lm.adapter import attach

    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    if config.gradient_checkpointing:
        base.enable_input_require_grads()  # type: ignore[no-untyped-call]  # else no gradient reaches the checkpointed blocks
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return attach(base, settings)
