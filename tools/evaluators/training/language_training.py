"""Training of one language model, with the text on the device.

There is no data loader and no loop over samples: a text is one tensor of bytes, and a batch is a
gather of random windows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_searcher.spaces.errors import TrialFailure
from lm_searcher.tools.data.texts import Text
from lm_searcher.tools.devices import mixed_precision, trial_device
from lm_searcher.tools.evaluators.training.counting import count_flops, count_parameters
from lm_searcher.tools.evaluators.training.optimizers import Schedule, optimizer_for, take_step
from lm_searcher.tools.evaluators.training.recipe import TextRecipe
from lm_searcher.tools.protocols import Metrics, Report

_WARM_UP = 0.1  # of all steps
_EVALUATION_BYTES = 32_768  # in a batch
_EVALUATION_WINDOWS = 4_096


def train(
    model: nn.Module,
    text: Text,
    recipe: TextRecipe,
    *,
    seed: int,
    report: Report,
    metric: str = "val_loss",
) -> Metrics:
    """Train `model` in place: symbols [n, t] -> logits [n, t, 256]; losses are nats a byte.

    An epoch is `recipe.steps` batches. `report` gets `metric` after each epoch, or the validation
    loss if `metric` is measured at the end only; the training ends when it returns True. Raises
    TrialFailure when the loss is not finite.
    """
    device = trial_device()
    model = model.to(device)
    learn, valid, test = (
        torch.tensor(part, device=device) for part in (text.train, text.valid, text.test)
    )
    metrics = {
        "params_m": count_parameters(model) / 1e6,
        "flops_m": count_flops(model, windows(learn, text.context)[:1, :-1].long()) / 1e6,
    }
    optimizer = optimizer_for(model, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, RiseAndFall(recipe))
    generator = torch.Generator(device).manual_seed(seed)
    for epoch in range(1, recipe.epochs + 1):
        loss = run_epoch(model, optimizer, schedule, learn, recipe, text.context, generator)
        if not math.isfinite(loss):
            raise TrialFailure(f"diverged: loss is {loss} at epoch {epoch}")
        valid_loss = mean_loss(model, valid, text.context)
        bits = valid_loss / math.log(2)
        now = {"val_loss": valid_loss, "val_bpb": bits, "train_loss": loss}
        if report(epoch, now.get(metric, valid_loss)):
            break
    test_loss = mean_loss(model, test, text.context)
    return metrics | now | {"test_loss": test_loss, "epochs": float(epoch)}


class RiseAndFall:
    """The factor on the learning rate at a step: linear warm-up, then a cosine to 0."""

    def __init__(self, recipe: TextRecipe) -> None:
        self.steps = recipe.epochs * recipe.steps
        self.warm_up = max(1, round(_WARM_UP * self.steps))

    def __call__(self, step: int) -> float:
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(1, self.steps - self.warm_up)
        return 0.5 + 0.5 * math.cos(math.pi * min(1.0, done))


def run_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    text: Tensor,
    recipe: TextRecipe,
    context: int,
    generator: torch.Generator,
) -> float:
    """Train on `recipe.steps` batches of random windows of the text; the mean loss."""
    model.train()
    device = text.device
    shape = (recipe.steps, recipe.batch_size, 1)
    starts = torch.randint(len(text) - context, shape, generator=generator, device=device)
    within = torch.arange(context + 1, device=device)
    # Summed on the device: to read a loss, the processor waits for the accelerator.
    total = torch.zeros((), device=device)
    for first in starts:
        loss = _loss(model, text[first + within])  # [batch, 1] + [context + 1]
        take_step(loss, optimizer, schedule)
        total += loss.detach()
    return float(total) / recipe.steps


def windows(text: Tensor, context: int) -> Tensor:
    """The text in order, [n, context + 1]; the last byte of a window is the first of the next.

    Bytes that do not fill a window are left out.
    """
    return text.unfold(0, context + 1, context)


def mean_loss(model: nn.Module, text: Tensor, context: int) -> float:
    """Mean cross-entropy over the text's windows, in nats a byte.

    For a long text over at most 4,096 windows at even distances, the same in every call.
    """
    model.eval()
    every = windows(text, context)
    every = every[:: -(-len(every) // _EVALUATION_WINDOWS)]  # step: the quotient, rounded up
    total = torch.zeros((), device=text.device)
    with torch.no_grad():
        for batch in torch.split(every, max(1, _EVALUATION_BYTES // context)):
            total += _loss(model, batch) * len(batch)
    return float(total) / len(every)


def _loss(model: nn.Module, rows: Tensor) -> Tensor:
    """Of windows uint8 [n, context + 1]: each byte but the first is predicted from those before."""
    symbols = rows.long()
    with mixed_precision(rows.device):
        logits: Tensor = model(symbols[:, :-1])
    return functional.cross_entropy(logits.float().flatten(0, 1), symbols[:, 1:].flatten())
