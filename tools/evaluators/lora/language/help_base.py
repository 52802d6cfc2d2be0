"""The embedded base of task 'language': a small model trained on Python's help texts."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lm_searcher.spaces.lora.bases import language
from lm_searcher.tools.evaluators.lora.base import BaseModel
from lm_searcher.tools.evaluators.lora.fit import Fit
from lm_searcher.tools.evaluators.lora.language.text_blocks import blocks, of_bytes, topics

if TYPE_CHECKING:
    from torch import Tensor

FIT = Fit(epochs=1, batch_size=8, learning_rate=4e-3, weight_decay=0.01)
CONTEXT = 128
"""Tokens in a block."""
RECORDED_AS = "lm_searcher.tools.evaluators.lora.language:train_base"


def help_base() -> BaseModel:
    """The base; its recipe contains a digest of the texts, which differ between Pythons."""
    text = hashlib.sha256(topics().encode()).hexdigest()
    recipe = {"text": text, "seed": 0, "context": CONTEXT, **asdict(FIT)}
    return BaseModel("language", f"{__name__}:train_base", recipe, RECORDED_AS)


def train_base(text: str, seed: int, context: int, **fit: Any) -> dict[str, Tensor]:
    """The weights of `help_base`. `text` belongs to the recipe and is not used here."""
    import torch

    from lm_searcher.tools.evaluators.lora.language.perplexity import next_token_loss
    from lm_searcher.tools.evaluators.lora.loop import train_base_model

    torch.manual_seed(seed)
    model = language()
    tokens = torch.tensor(blocks(of_bytes(topics()), context))
    train_base_model(
        model,
        Fit(**fit),
        examples=len(tokens),
        loss=lambda rows: next_token_loss(model, tokens[rows]),
        seed=seed,
    )
    return model.state_dict()
