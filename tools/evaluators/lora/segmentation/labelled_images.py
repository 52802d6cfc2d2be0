"""Images whose pixels are labelled, to train and to score a segmentation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

UNLABELLED = 255
"""The value of a pixel without a class; it counts neither in the loss nor in the IoU."""


@dataclass(frozen=True)
class Masked:
    """`images` [n, channels, height, width] and `masks` [n, height, width], both uint8."""

    images: Bytes
    masks: Bytes

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def digest(self) -> str:
        """A hash of the images and masks."""
        return hashlib.sha256(self.images.tobytes() + self.masks.tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class MaskedData:
    """Images to train on, to steer the search by, and to report at the end.

    Masks hold the classes from 0, the background, to `classes` - 1, and UNLABELLED.
    """

    train: Masked
    valid: Masked
    test: Masked
    classes: int
