"""The optimizers of a recipe, and one optimization step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lm_searcher.tools.evaluators.training.recipe import Recipe

Schedule = torch.optim.lr_scheduler.LRScheduler


def optimizer_for(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW without weight decay on norms, biases and vectors."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            lr=recipe.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), fused=True)


def take_step(
    loss: Tensor, optimizer: torch.optim.Optimizer, schedule: Schedule, gradient_clip: float = 0.0
) -> None:
    """Backward pass, gradient clipping (0: none), and one step of optimizer and schedule."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    if gradient_clip:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        nn.utils.clip_grad_norm_(weights, gradient_clip)
    optimizer.step()
    schedule.step()
