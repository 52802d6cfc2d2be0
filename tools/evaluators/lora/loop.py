"""The training loop of an adapter, for tasks whose batches are rows of tensors on the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lm_searcher.spaces.errors import TrialFailure
from lm_searcher.tools.devices import mixed_precision
from lm_searcher.tools.evaluators.lora.fit import Fit
from lm_searcher.tools.evaluators.training.optimizers import Schedule, take_step
from lm_searcher.tools.protocols import Report

Loss = Callable[[Tensor], Tensor]
"""The mean loss of the examples with these row numbers, int64 [batch] on the model's device."""


@dataclass(frozen=True)
class Fitted:
    """The result of a training."""

    epochs: int
    """0 if there was nothing to train."""
    train_loss: float
    """The mean over the last epoch; NaN if nothing was trained."""
    value: float
    """The last score."""


def train(
    model: nn.Module,
    fit: Fit,
    *,
    examples: int,
    loss: Loss,
    score: Callable[[], float],
    seed: int,
    report: Report,
) -> Fitted:
    """Train the parameters that require a gradient, in place; score after each epoch.

    `score()` is the objective, with the model in evaluation mode. On CUDA, `loss` is computed in
    bfloat16 autocast and `score` is not. The last, incomplete batch of an epoch is left out. If
    no parameter requires a gradient, the model is scored once, reported as step 1. Raises
    TrialFailure when the loss is not finite.
    """
    weights = [p for p in model.parameters() if p.requires_grad]
    if not weights:
        model.eval()
        value = score()
        report(1, value)
        return Fitted(0, math.nan, value)
    device = weights[0].device
    batch = min(fit.batch_size, examples)
    optimizer = torch.optim.AdamW(
        weights, lr=fit.learning_rate, weight_decay=fit.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, fit.epochs * (examples // batch)
    )
    generator = torch.Generator(device).manual_seed(seed)
    for epoch in range(1, fit.epochs + 1):
        model.train()
        order = torch.randperm(examples, generator=generator, device=device)
        train_loss = _run_epoch(order, batch, loss, optimizer, schedule)
        if not math.isfinite(train_loss):
            raise TrialFailure(f"diverged: loss is {train_loss} at epoch {epoch}")
        model.eval()
        value = score()
        if report(epoch, value):
            break
    return Fitted(epoch, train_loss, value)


def _run_epoch(
    order: Tensor, batch: int, loss: Loss, optimizer: torch.optim.Optimizer, schedule: Schedule
) -> float:
    """Train on the rows in this order, int64 [examples]; the mean loss."""
    # Summed on the device: to read a loss, the processor waits for the accelerator.
    total = torch.zeros((), device=order.device)
    steps = len(order) // batch
    for rows in order[: steps * batch].view(steps, batch):
        with mixed_precision(order.device):
            batch_loss = loss(rows)
        take_step(batch_loss, optimizer, schedule)
        total += batch_loss.detach()
    return float(total) / steps


def train_base_model(model: nn.Module, fit: Fit, *, examples: int, loss: Loss, seed: int) -> None:
    """Train an embedded base: as `train`, without scores and reports."""
    train(
        model,
        fit,
        examples=examples,
        loss=loss,
        score=lambda: 0.0,
        seed=seed,
        report=lambda step, value: False,
    )
