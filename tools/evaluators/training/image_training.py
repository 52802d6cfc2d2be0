"""Training of one image classifier, with the data on the device.

There is no data loader and no loop over images: a split is one tensor, and a batch is a gather.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_searcher.spaces.errors import TrialFailure
from lm_searcher.tools.data.image_dataset import Dataset
from lm_searcher.tools.devices import mixed_precision, trial_device
from lm_searcher.tools.evaluators.training.acceleration import (
    Forward,
    ForwardPass,
    Outputs,
    compiled,
    graphed,
)
from lm_searcher.tools.evaluators.training.augment import crop_and_flip, cutout
from lm_searcher.tools.evaluators.training.counting import count_flops, count_parameters
from lm_searcher.tools.evaluators.training.device_split import DeviceSplit
from lm_searcher.tools.evaluators.training.optimizers import Schedule, optimizer_for, take_step
from lm_searcher.tools.evaluators.training.recipe import Recipe
from lm_searcher.tools.protocols import Metrics, Report

_EVALUATION_BATCH = 1000


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

    `report` gets `metric` after each epoch, or the validation accuracy if `metric` is not one of
    REPORTED; the training ends when it returns True. The last, incomplete batch of an epoch is
    left out, so that all batches have one shape. `lap` is called at the end of each part:
    "ready", then "train" and "validate" in turn, "test". If the model has a method
    `begin_epoch(epoch, epochs)`, it is called before each epoch, from 1. `flops`, in millions, are
    counted if not given. Raises TrialFailure when the loss is not finite.
    """
    device = trial_device()
    model = model.to(device)
    if device.type == "cuda":
        # The layout of the fastest convolutions; torch's types lack this overload.
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learn, valid, test = (
        DeviceSplit.of(split, data, device) for split in (data.train, data.valid, data.test)
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
    forward_pass = training_pass(forward, learn, batch, compile, cuda_graph)
    generator = torch.Generator(device).manual_seed(seed)
    lap("ready")
    begin_epoch = getattr(model, "begin_epoch", lambda epoch, epochs: None)
    for epoch in range(1, recipe.epochs + 1):
        begin_epoch(epoch, recipe.epochs)
        forward.train()
        loss = run_epoch(forward_pass, optimizer, schedule, learn, recipe, generator)
        lap("train")
        if not math.isfinite(loss):
            raise TrialFailure(f"diverged: loss is {loss} at epoch {epoch}")
        accuracy, valid_loss = accuracy_and_loss(model, valid)
        now = {"val_accuracy": accuracy, "val_loss": valid_loss, "train_loss": loss}
        lap("validate")
        if report(epoch, now.get(metric, accuracy)):
            break
    test_accuracy, _ = accuracy_and_loss(model, test)
    lap("test")
    return metrics | now | {"test_accuracy": test_accuracy, "epochs": float(epoch)}


def counted_flops(model: nn.Module, split: DeviceSplit) -> float:
    """Millions of operations for one image of the split, counted."""
    return count_flops(model, split.normalise(split.images[:1])) / 1e6


def training_pass(
    forward: Forward, split: DeviceSplit, batch: int, compile: bool, cuda_graph: bool
) -> ForwardPass:
    """The forward pass for batches of the split: plain, compiled, or as a CUDA graph."""
    device = split.images.device
    if compile:
        return compiled(forward, device)
    if cuda_graph and device.type == "cuda":
        forward.train()
        images = split.normalise(split.images[:batch])
        images = images.contiguous(memory_format=torch.channels_last)
        with mixed_precision(device, cache=False):
            return graphed(forward, images)
    return forward


def run_epoch(
    forward_pass: ForwardPass,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    split: DeviceSplit,
    recipe: Recipe,
    generator: torch.Generator,
) -> float:
    """Train on the split once, in a new random order; the mean loss without the auxiliary one."""
    device = split.images.device
    batch = min(recipe.batch_size, len(split))
    order = torch.randperm(len(split), generator=generator, device=device)
    # Summed on the device: to read a loss, the processor waits for the accelerator.
    total = torch.zeros((), device=device)
    steps = len(split) // batch
    for rows in order[: steps * batch].view(steps, batch):  # [batch] row numbers
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
            for out in outputs(forward_pass, images)
        ]
        loss = losses[0]
        for auxiliary in losses[1:]:
            loss = loss + recipe.auxiliary_weight * auxiliary
        take_step(loss, optimizer, schedule, recipe.gradient_clip)
        total += losses[0].detach()
    return float(total) / steps


def accuracy_and_loss(model: nn.Module, split: DeviceSplit) -> tuple[float, float]:
    """Accuracy in [0, 1] and mean cross-entropy in nats over the split."""
    model.eval()
    forward = Forward(model, auxiliary=False)
    right = torch.zeros((), device=split.images.device)
    total = torch.zeros((), device=split.images.device)
    with torch.no_grad():
        for start in range(0, len(split), _EVALUATION_BATCH):
            images = split.images[start : start + _EVALUATION_BATCH]
            labels = split.labels[start : start + _EVALUATION_BATCH]
            (logits,) = outputs(forward, split.normalise(images))
            right += (logits.argmax(1) == labels).sum()
            total += functional.cross_entropy(logits, labels, reduction="sum")
    return float(right) / len(split), float(total) / len(split)


def outputs(forward_pass: ForwardPass, images: Tensor) -> Outputs:
    """The network's outputs for normalised images, in float32; on CUDA computed in bfloat16."""
    if images.device.type == "cuda":
        images = images.contiguous(memory_format=torch.channels_last)
    with mixed_precision(images.device):
        computed = forward_pass(images)
    return tuple(out.float() for out in computed)
