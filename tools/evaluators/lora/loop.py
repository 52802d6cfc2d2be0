"""The training loop of an adapter, for tasks whose batches are rows of tensors on the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lm_searcher.spaces.errors import TrialFailure
from lm_searcher.tools.evaluators.lora.fit import Fit
from lm_searcher.tools.protocols import Report


@dataclass(frozen=True)
class Fitted:
    """What a training came to."""

    epochs: int
    """0 where there was nothing to train."""
    train_loss: float
    """The mean over the last epoch; NaN where there was none."""
    value: float
    """The last score."""


def device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train(
    model: nn.Module,
    fit: Fit,
    *,
    examples: int,
    loss: Callable[[Tensor], Tensor],
    score: Callable[[], float],
    seed: int,
    report: Report,
) -> Fitted:
    """Train the parameters that require a gradient, in place; score after each epoch.

    `loss(rows)` is the loss of the examples with these numbers (on the model's device), `score()`
    the objective. bf16 autocast on CUDA around `loss` (not around `score`). The last, incomplete
    batch of an epoch is left out. Nothing to train: one score, reported as step 1.
    Raises TrialFailure when the loss is no longer a number.
    """
    learned = [p for p in model.parameters() if p.requires_grad]
    if not learned:
        model.eval()
        value = score()
        report(1, value)
        return Fitted(0, math.nan, value)
    place = learned[0].device
    batch = min(fit.batch_size, examples)
    steps = examples // batch
    optimizer = torch.optim.AdamW(
        learned, lr=fit.learning_rate, weight_decay=fit.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, fit.epochs * steps)
    generator = torch.Generator(place).manual_seed(seed)
    for epoch in range(1, fit.epochs + 1):
        model.train()
        total = torch.zeros((), device=place)
        order = torch.randperm(examples, generator=generator, device=place)
        for rows in order[: steps * batch].view(steps, batch):
            with torch.autocast(place.type, dtype=torch.bfloat16, enabled=place.type == "cuda"):
                batch_loss = loss(rows)
            optimizer.zero_grad()
            batch_loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += batch_loss.detach()
        mean = float(total) / steps
        if not math.isfinite(mean):
            raise TrialFailure(f"diverged: loss is {mean} at epoch {epoch}")
        model.eval()
        value = score()
        if report(epoch, value):
            break
    return Fitted(epoch, mean, value)
