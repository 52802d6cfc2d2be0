"""One split of labelled images on the device: the loss and the scores of predicted masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lm_searcher.tools.devices import mixed_precision
from lm_searcher.tools.evaluators.lora.segmentation.labelled_images import UNLABELLED, Masked
from lm_searcher.tools.evaluators.lora.segmentation.metrics import (
    confusion,
    mean_iou,
    mean_s_measure,
)
from lm_searcher.tools.evaluators.lora.segmentation.models import logits


@dataclass(frozen=True)
class Masks:
    """Images [n, c, h, w] and masks [n, h, w], both uint8 until a batch is used.

    `mean` and `std` are float32 [c, 1, 1].
    """

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
        """Copy a split to the device; `mean` and `std` are for values from 0 to 1, by channel."""
        images, masks = (torch.tensor(a, device=device) for a in (part.images, part.masks))
        units = (torch.tensor(v, device=device)[:, None, None] for v in (mean, std))
        return cls(images, masks, classes, *units)

    def logits(self, model: nn.Module, rows: Tensor | slice) -> Tensor:
        """Logits of the classes for the images with these rows, [n, classes, height, width]."""
        return logits(model, (self.images[rows] / 255 - self.mean) / self.std, self.classes)

    def loss(self, model: nn.Module, rows: Tensor) -> Tensor:
        """The training loss of the images with these rows.

        A frozen batch norm also keeps the base's statistics: it stays in evaluation mode.
        """
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
                module.eval()
        return mask_loss(self.logits(model, rows), self.masks[rows].long())

    @torch.no_grad()
    def score(self, model: nn.Module, batch: int, with_s_measure: bool) -> dict[str, float]:
        """miou over all images and, if asked for, the mean s_measure of the foreground.

        For the s_measure, an unlabelled pixel counts as background predicted correctly.
        """
        model.eval()
        table = np.zeros((self.classes, self.classes), np.int64)
        measured = 0.0
        for start in range(0, len(self.masks), batch):
            rows = slice(start, start + batch)
            with mixed_precision(self.images.device):
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
    """Mean cross-entropy over labelled pixels; for two classes plus the dice loss of class 1.

    `scores` are logits [n, classes, height, width], `masks` int64 [n, height, width], which may
    hold UNLABELLED.
    """
    known = masks != UNLABELLED
    entropy = functional.cross_entropy(scores, masks, ignore_index=UNLABELLED, reduction="sum")
    loss = entropy / known.sum().clamp(min=1)
    if scores.shape[1] > 2:
        return loss
    found = scores.softmax(1)[:, 1] * known
    truth = (masks * known).float()
    # Dice: 1 - 2 |A and B| / (|A| + |B|) for each image; the 1s keep an empty mask finite.
    shared = (found * truth).sum((1, 2))
    return loss + (1 - (2 * shared + 1) / (found.sum((1, 2)) + truth.sum((1, 2)) + 1)).mean()
