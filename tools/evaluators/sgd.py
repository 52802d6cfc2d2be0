"""Training of one model, with the data on the device.

No loader and no loop over images: a split is one tensor, and a batch is a gather.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_searcher.spaces.errors import TrialFailure
from lm_searcher.tools.datasets import Dataset, Split
from lm_searcher.tools.evaluators.counting import count_flops, count_parameters
from lm_searcher.tools.evaluators.optimizers import optimizer_for
from lm_searcher.tools.evaluators.recipe import Recipe
from lm_searcher.tools.protocols import Metrics, Report

_PADDING = 4
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


def train(model: nn.Module, data: Dataset, recipe: Recipe, *, seed: int, report: Report) -> Metrics:
    """Train `model` in place; accuracies are fractions, `flops_m` is for one image.

    `report` gets the validation accuracy after each epoch; when it says so, the training ends
    there. The last, incomplete batch of an epoch is left out, so that all have the same shape.
    Raises TrialFailure when the loss is no longer a number.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device)
    if device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learn, valid, test = (
        Resident.of(split, data, device) for split in (data.train, data.valid, data.test)
    )
    metrics = {
        "params_m": count_parameters(model) / 1e6,
        "flops_m": count_flops(model, learn.normalise(learn.images[:1])) / 1e6,
    }
    batch = min(recipe.batch_size, len(learn))
    optimizer = optimizer_for(model, recipe)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, recipe.epochs * (len(learn) // batch)
    )
    generator = torch.Generator(device).manual_seed(seed)
    for epoch in range(1, recipe.epochs + 1):
        loss = run_epoch(model, optimizer, schedule, learn, recipe, generator)
        if not math.isfinite(loss):
            raise TrialFailure(f"diverged: loss is {loss} at epoch {epoch}")
        accuracy, valid_loss = measure(model, valid)
        if report(epoch, accuracy):
            break
    test_accuracy, _ = measure(model, test)
    return metrics | {
        "val_accuracy": accuracy,
        "test_accuracy": test_accuracy,
        "val_loss": valid_loss,
        "train_loss": loss,
        "epochs": float(epoch),
    }


def run_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    split: Resident,
    recipe: Recipe,
    generator: torch.Generator,
) -> float:
    """One pass over the split in a fresh random order; the mean loss."""
    model.train()
    device = split.images.device
    batch = min(recipe.batch_size, len(split))
    order = torch.randperm(len(split), generator=generator, device=device)
    # Summed on the device: reading each loss would make the processor wait for the accelerator.
    total = torch.zeros((), device=device)
    steps = len(split) // batch
    for rows in order[: steps * batch].view(steps, batch):
        images = split.images[rows]
        if recipe.augment:
            images = crop_and_flip(images, generator)
        loss = _loss(model, split.normalise(images), split.labels[rows], recipe.label_smoothing)[0]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        total += loss.detach()
    return float(total) / steps


def measure(model: nn.Module, split: Resident) -> tuple[float, float]:
    """Accuracy in [0, 1] and mean cross-entropy over the split."""
    model.eval()
    right = torch.zeros((), device=split.images.device)
    total = torch.zeros((), device=split.images.device)
    with torch.no_grad():
        for start in range(0, len(split), _EVALUATION_BATCH):
            images = split.images[start : start + _EVALUATION_BATCH]
            labels = split.labels[start : start + _EVALUATION_BATCH]
            loss, logits = _loss(model, split.normalise(images), labels)
            right += (logits.argmax(1) == labels).sum()
            total += loss * len(labels)
    return float(right) / len(split), float(total) / len(split)


def _loss(
    model: nn.Module, images: Tensor, labels: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    on_cuda = images.device.type == "cuda"
    if on_cuda:
        images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=on_cuda):
        logits: Tensor = model(images)
    logits = logits.float()
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing), logits


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image [n, c, h, w] shifted by up to 4 pixels, black moving in, and half mirrored."""
    n, _, height, width = images.shape
    device = images.device

    def draw(below: int) -> Tensor:
        return torch.randint(below, (n, 1), generator=generator, device=device)

    rows = draw(2 * _PADDING + 1) + torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    columns = torch.where(draw(2) == 1, columns, columns.flip(0)) + draw(2 * _PADDING + 1)
    padded = functional.pad(images, [_PADDING] * 4)
    # Indices around a slice put the channels last: [n, h, w, c].
    picked = padded[
        torch.arange(n, device=device)[:, None, None], :, rows[:, :, None], columns[:, None, :]
    ]
    return picked.permute(0, 3, 1, 2)
