"""Augmentation of whole batches, on the device and without a loop over images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_PADDING = 4


def crop_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images [n, c, h, w], each shifted by up to 4 pixels over black, and mirrored by chance 1/2.

    Called before normalisation, where black is 0.
    """
    n, _, height, width = images.shape
    device = images.device

    def draw(below: int) -> Tensor:
        return torch.randint(below, (n, 1), generator=generator, device=device)

    # Row and column of the padded image for each pixel, [n, h] and [n, w].
    rows = draw(2 * _PADDING + 1) + torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    columns = torch.where(draw(2) == 1, columns, columns.flip(0)) + draw(2 * _PADDING + 1)
    padded = functional.pad(images, [_PADDING] * 4)
    # Indices around a slice put the channels last: [n, h, w, c].
    picked = padded[
        torch.arange(n, device=device)[:, None, None], :, rows[:, :, None], columns[:, None, :]
    ]
    return picked.permute(0, 3, 1, 2)


def cutout(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Normalised images [n, c, h, w], each with a square of `side` pixels set to 0, the mean.

    The centre is a random pixel; a part beyond the border is cut off (arXiv 1708.04552).
    """
    n, _, height, width = images.shape
    device = images.device

    def inside(length: int) -> Tensor:
        """Whether a row (or column) is in the square, [n, length]."""
        centre = torch.randint(length, (n, 1), generator=generator, device=device)
        place = torch.arange(length, device=device) - centre + side // 2
        return (place >= 0) & (place < side)

    hole = inside(height)[:, :, None] & inside(width)[:, None, :]
    return images.masked_fill(hole[:, None], 0)
