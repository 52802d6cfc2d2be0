"""One split of labelled images on the device: the loss of its masks, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_searcher.tools.evaluators.lora.segmentation.labelled_images import UNLABELLED, Masked
from lm_searcher.tools.evaluators.lora.segmentation.metrics import (
    confusion,
    mean_iou,
    mean_s_measure,
)
from lm_searcher.tools.evaluators.lora.segmentation.models import logits


@dataclass(frozen=True)
class Masks:
    """Images and masks stay bytes until a batch is taken."""

    images: Tensor
    masks: Tensor
    classes: int
    mean: Tensor
    std: Tensor

    @classmethod
    def of(
        cls,
        part: Masked,
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
    ) -> Masks:
        """On the device; `mean` and `std` are of images whose values are from 0 to 1."""
        images, masks = (torch.tensor(a, device=device) for a in (part.images, part.masks))
        units = (torch.tensor(v, device=device)[:, None, None] for v in (mean, std))
        return cls(images, masks, classes, *units)

    def logits(self, model: nn.Module, rows: Tensor | slice) -> Tensor:
        """Scores of the classes for these images, [n, classes, height, width]."""
        return logits(model, (self.images[rows] / 255 - self.mean) / self.std, self.classes)

    def loss(self, model: nn.Module, rows: Tensor) -> Tensor:
        """The loss of these images, for training.

        A batch norm that does not learn keeps its statistics: they are the base's, too.
        """
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()
        return mask_loss(self.logits(model, rows), self.masks[rows].long())

    @torch.no_grad()
    def score(self, model: nn.Module, batch: int, with_s_measure: bool) -> dict[str, float]:
        """miou over all images, and where asked the mean s_measure of the foreground.

        An unlabelled pixel counts as background that was found.
        """
        model.eval()
        table = np.zeros((self.classes, self.classes), np.int64)
        measured = 0.0
        device = self.images.device.type
        for start in range(0, len(self.masks), batch):
            rows = slice(start, start + batch)
            with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
                found = self.logits(model, rows)
            truth = self.masks[rows].cpu().numpy()
            table += confusion(truth, found.argmax(1).cpu().numpy(), self.classes)
            if with_s_measure:
                known = truth != UNLABELLED
                foreground = 1 - found.softmax(1)[:, 0].cpu().numpy()
                measured += len(truth) * mean_s_measure(foreground * known, (truth > 0) & known)
        scores = {"miou": mean_iou(table)}
        return scores | {"s_measure": measured / len(self.masks)} if with_s_measure else scores


def mask_loss(scores: Tensor, masks: Tensor) -> Tensor:
    """Cross-entropy of the labelled pixels; for two classes, the dice loss of class 1 is added.

    `scores` is [n, classes, height, width], `masks` [n, height, width] with UNLABELLED.
    """
    known = masks != UNLABELLED
    entropy = functional.cross_entropy(scores, masks, ignore_index=UNLABELLED, reduction="sum")
    loss = entropy / known.sum().clamp(min=1)
    if scores.shape[1] > 2:
        return loss
    found = scores.softmax(1)[:, 1] * known
    truth = (masks * known).float()
    shared = (found * truth).sum((1, 2))
    return loss + (1 - (2 * shared + 1) / (found.sum((1, 2)) + truth.sum((1, 2)) + 1)).mean()
