"""The loss and perplexity of a causal language model on blocks of tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_searcher.tools.devices import mixed_precision


def next_token_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    """Mean cross-entropy in nats over int64 tokens [n, t], without the first of each block."""
    # The logits at position i predict token i + 1.
    logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
    return functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())


def mean_loss(model: nn.Module, blocks: Tensor, batch_size: int) -> float:
    """The mean loss over int64 blocks [n, t], in bfloat16 on CUDA."""
    model.eval()
    total = torch.zeros((), device=blocks.device)
    with torch.no_grad(), mixed_precision(blocks.device):
        for batch in torch.split(blocks, batch_size):
            total += next_token_loss(model, batch) * len(batch)
    return float(total) / len(blocks)


def perplexity(loss: float) -> float:
    """The exponential of a loss in nats; infinite beyond the range of a float."""
    return math.exp(loss) if loss < 700 else math.inf
