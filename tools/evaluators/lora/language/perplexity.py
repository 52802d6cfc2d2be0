"""How well a causal language model predicts blocks of tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def next_token_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    """Mean cross-entropy, in nats, of each token of the blocks but their first."""
    logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
    return functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())


def mean_loss(model: nn.Module, blocks: Tensor, batch_size: int) -> float:
    """The loss over all blocks, with bf16 on CUDA."""
    model.eval()
    total = torch.zeros((), device=blocks.device)
    place = blocks.device.type
    with torch.no_grad(), torch.autocast(place, torch.bfloat16, enabled=place == "cuda"):
        for batch in torch.split(blocks, batch_size):
            total += next_token_loss(model, batch) * len(batch)
    return float(total) / len(blocks)


def perplexity(loss: float) -> float:
    """Of a loss in nats; infinite where it has no number."""
    return math.exp(loss) if loss < 700 else math.inf
