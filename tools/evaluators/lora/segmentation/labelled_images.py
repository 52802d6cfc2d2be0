"""Images whose pixels are labelled: what a segmentation learns from, and is scored by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

UNLABELLED = 255
"""The value of a pixel that has no class: it counts neither in the loss nor in the IoU."""


@dataclass(frozen=True)
class Masked:
    """`images` [n, channels, height, width] and `masks` [n, height, width], both uint8."""

    images: Bytes
    masks: Bytes

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def digest(self) -> str:
        """Tells these images and masks from others."""
        return hashlib.sha256(self.images.tobytes() + self.masks.tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class MaskedData:
    """What a model learns from, what steers the search, and what reports it.

    Masks hold the classes from 0, the background, to `classes` - 1, and UNLABELLED.
    """

    train: Masked
    valid: Masked
    test: Masked
    classes: int
