"""Labelled images as plain arrays, and how they are divided.

numpy only: worker processes fork after loading, so nothing here starts a thread or touches an
accelerator.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import DatasetError

Split = tuple[NDArray[Any], NDArray[np.int64]]
"""Images [n, channels, height, width], uint8 or float32, and their labels [n]."""


_MOST_NUMBERS = 2**28
"""Numbers from which `Dataset.mean` and `Dataset.std` are computed; a sample of larger data."""


@dataclass(frozen=True)
class Dataset:
    """Images to train on, to steer the search by (`valid`), and to report at the end (`test`).

    Labels are 0 to classes - 1. Raises DatasetError for shapes or types that `Split` does not
    allow.
    """

    name: str
    train: Split
    valid: Split
    test: Split
    classes: int

    def __post_init__(self) -> None:
        for part in ("train", "valid", "test"):
            _check_split(f"dataset '{self.name}', {part}", getattr(self, part), self.classes)
        shapes = {split[0].shape[1:] for split in (self.train, self.valid, self.test)}
        if len(shapes) > 1:
            raise DatasetError(f"dataset '{self.name}': images of different shapes {shapes}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.train[0].shape
        return channels, height, width

    @property
    def call(self) -> dict[str, Any]:
        """The keywords that a space's builder gets for this data."""
        return {"in_channels": self.shape[0], "classes": self.classes}

    @property
    def mean(self) -> NDArray[np.float32]:
        """The mean of each channel over the training images, in their unit: float32 [channels].

        More than 2**28 numbers are sampled at even distances.
        """
        return self._mean_and_std[0]

    @property
    def std(self) -> NDArray[np.float32]:
        """The standard deviation, as `mean`; 1 for a constant channel, to divide by."""
        return self._mean_and_std[1]

    @cached_property
    def _mean_and_std(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        images = self.train[0]
        total, squares = np.zeros(images.shape[1]), np.zeros(images.shape[1])
        if images.size > _MOST_NUMBERS:  # every n-th image, since classes may come in order
            images = images[:: -(-images.size // _MOST_NUMBERS)]
        # In pieces: CIFAR in float64 would take more than a gigabyte at once.
        for piece in np.array_split(images, 1 + images.size // 3_000_000):
            exact = piece.astype(np.float64)
            total += exact.sum(axis=(0, 2, 3))
            squares += np.square(exact).sum(axis=(0, 2, 3))
        count = images[:, 0].size
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0))
        return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def hold_out(split: Split, count: int) -> tuple[Split, Split]:
    """Divide a split: the rest, and `count` images of it. The same images in every call.

    Stratified: each class gives its share of `count`, to within one image.
    """
    images, labels = split
    # RandomState: numpy promises that its stream never changes.
    shuffled = np.random.RandomState(0).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # A shuffled image is chosen where count / n, summed along the classes, passes a whole number.
    steps = np.arange(len(labels) + 1) * count // len(labels)
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[by_class[np.diff(steps) == 1]] = True
    return (images[~chosen], labels[~chosen]), (images[chosen], labels[chosen])


def share(data: Dataset, fraction: float) -> Dataset:
    """The data set with a fraction, in (0, 1], of its training images; the same in every call.

    Stratified as in `hold_out`. Raises DatasetError if a class loses all its images, or if fewer
    than two images are left.
    """
    few = hold_out(data.train, round(fraction * len(data.train[1])))[1]
    if len(few[1]) < 2 or len(np.unique(few[1])) < len(np.unique(data.train[1])):
        raise DatasetError(
            f"dataset '{data.name}': data_fraction = {fraction:g} leaves {len(few[1])} of "
            f"{len(data.train[1])} training images, which are not of all classes; take more"
        )
    return replace(data, train=few)


def _check_split(place: str, split: Split, classes: int) -> None:
    images, labels = split
    if images.dtype not in (np.uint8, np.float32) or images.ndim != 4 or not images.size:
        raise DatasetError(
            f"{place}: images are {images.dtype} of shape {images.shape}; "
            "accepted: uint8 or float32 of shape [n, channels, height, width], none of them 0"
        )
    if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
        raise DatasetError(
            f"{place}: labels are {labels.dtype} of shape {labels.shape}; "
            f"accepted: int64 of shape ({len(images)},), one an image"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise DatasetError(
            f"{place}: labels from {labels.min()} to {labels.max()}; accepted: 0 to {classes - 1}"
        )
    if images.dtype == np.float32 and not np.isfinite(images).all():
        raise DatasetError(f"{place}: an image holds nan or infinity; accepted: finite numbers")
