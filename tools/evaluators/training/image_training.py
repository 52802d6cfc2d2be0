"""Training of one model, with the data on the device.

No loader and no loop over images: a split is one tensor, and a batch is a gather.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_searcher.spaces.errors import TrialFailure
from lm_searcher.tools.data.image_dataset import Dataset, Split
from lm_searcher.tools.devices import trial_device
from lm_searcher.tools.evaluators.training.acceleration import (
    Forward,
    Outputs,
    Run,
    compiled,
    graphed,
)
from lm_searcher.tools.evaluators.training.augment import crop_and_flip, cutout
from lm_searcher.tools.evaluators.training.counting import count_flops, count_parameters
from lm_searcher.tools.evaluators.training.optimizers import optimizer_for
from lm_searcher.tools.evaluators.training.recipe import Recipe
from lm_searcher.tools.protocols import Metrics, Report

_EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Resident:
    """One split on the device. Images are kept as they come, bytes mostly, and normalised late."""

    images: Tensor
    labels: Tensor
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, split: Split, data: Dataset, device: torch.device) -> Resident:
        """Copies `split` of `data` to the device."""
        images, labels = (torch.tensor(array, device=device) for array in split)
        mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (data.mean, data.std))
        return cls(images, labels, mean, std)

    def __len__(self) -> int:
        return len(self.labels)

    def normalise(self, images: Tensor) -> Tensor:
        """As float32, each channel in units of the training images' spread."""
        return (images.float() - self.mean) / self.std


def train(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    report: Report,
    metric: str = "val_accuracy",
    flops: float | None = None,
    compile: bool = False,
    cuda_graph: bool = False,
    lap: Callable[[str], None] = lambda part: None,
) -> Metrics:
    """Train `model` in place; accuracies are fractions, `flops_m` is for one image.

    `report` gets `metric` after each epoch (the validation accuracy if it is none of those that
    are known then, REPORTED); when it says so, the training ends there. The last, incomplete
    batch of an epoch is left out, so that all have the same shape. `lap` is called at the end of
    each part, for who measures: "ready", then "train" and "validate" by turns, "test". A model
    that has a method `begin_epoch(epoch, epochs)` is told, from 1. `flops`, in millions, saves
    the counting of them.
    Raises TrialFailure when the loss is no longer a number.
    """
    device = trial_device()
    model = model.to(device)
    if device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learn, valid, test = (
        Resident.of(split, data, device) for split in (data.train, data.valid, data.test)
    )
    metrics = {
        "params_m": count_parameters(model) / 1e6,
        "flops_m": flops if flops is not None else counted_flops(model, learn),
    }
    batch = min(recipe.batch_size, len(learn))
    optimizer = optimizer_for(model, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, partial(recipe.rate, steps=len(learn) // batch)
    )
    forward = Forward(model, auxiliary=recipe.auxiliary_weight > 0)
    run = forward_of(forward, learn, batch, compile, cuda_graph)
    generator = torch.Generator(device).manual_seed(seed)
    lap("ready")
    begin_epoch = getattr(model, "begin_epoch", lambda epoch, epochs: None)
    for epoch in range(1, recipe.epochs + 1):
        begin_epoch(epoch, recipe.epochs)
        forward.train()
        loss = run_epoch(run, optimizer, schedule, learn, recipe, generator)
        lap("train")
        if not math.isfinite(loss):
            raise TrialFailure(f"diverged: loss is {loss} at epoch {epoch}")
        accuracy, valid_loss = measure(model, valid)
        now = {"val_accuracy": accuracy, "val_loss": valid_loss, "train_loss": loss}
        lap("validate")
        if report(epoch, now.get(metric, accuracy)):
            break
    test_accuracy, _ = measure(model, test)
    lap("test")
    return metrics | now | {"test_accuracy": test_accuracy, "epochs": float(epoch)}


def counted_flops(model: nn.Module, split: Resident) -> float:
    """In millions, for one image."""
    return count_flops(model, split.normalise(split.images[:1])) / 1e6


def forward_of(
    forward: Forward, split: Resident, batch: int, compile: bool, cuda_graph: bool
) -> Run:
    """How a training batch of the split passes through the network."""
    device = split.images.device
    if compile:
        return compiled(forward, device)
    if cuda_graph and device.type == "cuda":
        forward.train()
        images = split.normalise(split.images[:batch])
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False):
            return graphed(forward, images)
    return forward


def run_epoch(
    run: Run,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    split: Resident,
    recipe: Recipe,
    generator: torch.Generator,
) -> float:
    """One pass over the split in a fresh random order; the mean loss of the network's output."""
    device = split.images.device
    batch = min(recipe.batch_size, len(split))
    order = torch.randperm(len(split), generator=generator, device=device)
    # Summed on the device: reading each loss would make the processor wait for the accelerator.
    total = torch.zeros((), device=device)
    steps = len(split) // batch
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for rows in order[: steps * batch].view(steps, batch):
        images = split.images[rows]
        if recipe.augment:
            images = crop_and_flip(images, generator)
        images = split.normalise(images)
        if recipe.cutout:
            images = cutout(images, recipe.cutout, generator)
        losses = [
            functional.cross_entropy(
                out, split.labels[rows], label_smoothing=recipe.label_smoothing
            )
            for out in outputs(run, images)
        ]
        loss = losses[0]
        for beside in losses[1:]:
            loss = loss + recipe.auxiliary_weight * beside
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.gradient_clip:
            nn.utils.clip_grad_norm_(weights, recipe.gradient_clip)
        optimizer.step()
        schedule.step()
        total += losses[0].detach()
    return float(total) / steps


def measure(model: nn.Module, split: Resident) -> tuple[float, float]:
    """Accuracy in [0, 1] and mean cross-entropy over the split."""
    model.eval()
    run = Forward(model, auxiliary=False)
    right = torch.zeros((), device=split.images.device)
    total = torch.zeros((), device=split.images.device)
    with torch.no_grad():
        for start in range(0, len(split), _EVALUATION_BATCH):
            images = split.images[start : start + _EVALUATION_BATCH]
            labels = split.labels[start : start + _EVALUATION_BATCH]
            (logits,) = outputs(run, split.normalise(images))
            right += (logits.argmax(1) == labels).sum()
            total += functional.cross_entropy(logits, labels, reduction="sum")
    return float(right) / len(split), float(total) / len(split)


def outputs(run: Run, images: Tensor) -> Outputs:
    """What a network makes of normalised images, in float32; on CUDA it works in bfloat16."""
    on_cuda = images.device.type == "cuda"
    if on_cuda:
        images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=on_cuda):
        made = run(images)
    return tuple(out.float() for out in made)
