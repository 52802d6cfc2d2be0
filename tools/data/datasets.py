"""Image classification data, as plain arrays.

numpy only: worker processes fork after loading, so nothing here starts a thread or touches an
accelerator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import DatasetError, unknown
from lm_searcher.tools.data import cifar
from lm_searcher.tools.data.texts import NAMES as TEXTS
from lm_searcher.tools.importing import resolve

Split = tuple[NDArray[Any], NDArray[np.int64]]
"""Images [n, channels, height, width], uint8 or float32, and their labels [n]."""

NAMES = ("digits", "cifar10", "cifar100")
"""What has a name; "folder" is the user's own photographs."""

_MEASURED = 2**28  # numbers


@dataclass(frozen=True)
class Dataset:
    """What a model learns from (`train`), what steers the search (`valid`) and what reports it.

    Labels are 0 to classes - 1. Raises DatasetError for anything else than the shapes and types
    of `Split`, so an instance can be relied on.
    """

    name: str
    train: Split
    valid: Split
    test: Split
    classes: int

    def __post_init__(self) -> None:
        for part in ("train", "valid", "test"):
            _check(f"dataset '{self.name}', {part}", getattr(self, part), self.classes)
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
        """The keywords with which a space's builder is told of this data."""
        return {"in_channels": self.shape[0], "classes": self.classes}

    @property
    def mean(self) -> NDArray[np.float32]:
        """Of each channel over the training images only, in the images' own unit; over some of
        them, evenly spaced, where they are more than a quarter of a billion numbers."""
        return self._mean_and_std[0]

    @property
    def std(self) -> NDArray[np.float32]:
        """As `mean`; 1 for a channel that never varies, so that it can be divided by."""
        return self._mean_and_std[1]

    @cached_property
    def _mean_and_std(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        images = self.train[0]
        total, squares = np.zeros(images.shape[1]), np.zeros(images.shape[1])
        if images.size > _MEASURED:  # evenly spread over the classes, which may come in order
            images = images[:: -(-images.size // _MEASURED)]
        # In pieces: all of CIFAR in float64 would be more than a gigabyte.
        for piece in np.array_split(images, 1 + images.size // 3_000_000):
            exact = piece.astype(np.float64)
            total += exact.sum(axis=(0, 2, 3))
            squares += np.square(exact).sum(axis=(0, 2, 3))
        count = images[:, 0].size
        mean = total / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0))
        return mean.astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def load_dataset(
    name: str,
    folder: str | Path | None = None,
    image_size: int | None = None,
    cache: str | Path | None = None,
) -> Dataset:
    """A data set by name, or from the user's own "module:function".

    `folder` holds the unpacked python version of CIFAR, or for the name "folder" the images that
    `image_folder.load` describes, with `image_size` and `cache`; the others need none. The user's
    function takes no argument and returns a Dataset, or (train, valid, test) as a tuple or a
    dict, each (images, labels). Raises DatasetError.
    """
    if ":" in name:
        return _from_function(name)
    if name == "folder":
        return _from_images(folder, image_size, cache)
    if name == "digits":
        return _digits()
    if name not in NAMES:
        raise DatasetError(unknown("dataset", name, [*NAMES, "folder", *TEXTS, "module:function"]))
    if folder is None:
        raise DatasetError(f"dataset '{name}': folder is not set; accepted: {cifar.ACCEPTED}")
    train, test = cifar.load(name, Path(folder))
    # A tenth, that is 5,000 images of the real data.
    train, valid = hold_out(train, len(train[1]) // 10)
    return Dataset(name, train, valid, test, classes=10 if name == "cifar10" else 100)


def hold_out(split: Split, count: int) -> tuple[Split, Split]:
    """The split without `count` of its images, and those; always the same ones.

    Stratified: each class gives its share of the count, to within one image.
    """
    images, labels = split
    # RandomState, because numpy promises that its stream stays the same for ever.
    shuffled = np.random.RandomState(0).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    steps = np.arange(len(labels) + 1) * count // len(labels)
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[by_class[np.diff(steps) == 1]] = True
    return (images[~chosen], labels[~chosen]), (images[chosen], labels[chosen])


def share(data: Dataset, fraction: float) -> Dataset:
    """The data set with only this share of its training images; always the same ones.

    Stratified as in `hold_out`. Raises DatasetError if a class, or all but one image, falls out.
    """
    few = hold_out(data.train, round(fraction * len(data.train[1])))[1]
    if len(few[1]) < 2 or len(np.unique(few[1])) < len(np.unique(data.train[1])):
        raise DatasetError(
            f"dataset '{data.name}': data_fraction = {fraction:g} leaves {len(few[1])} of "
            f"{len(data.train[1])} training images, which are not of all classes; take more"
        )
    return replace(data, train=few)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits  # half a second, and only this data set needs it

    bunch: Any = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]  # whole numbers from 0 to 16
    rest, test = hold_out((images, bunch.target.astype(np.int64)), 397)
    train, valid = hold_out(rest, 400)
    return Dataset("digits", train, valid, test, classes=10)


def _from_images(folder: str | Path | None, size: int | None, cache: str | Path | None) -> Dataset:
    from lm_searcher.tools.data import image_folder  # with Pillow, which only this data set needs

    if folder is None:
        raise DatasetError(
            f"dataset 'folder': folder is not set; accepted: {image_folder.ACCEPTED}"
        )
    if size is None:
        raise DatasetError("dataset 'folder': image_size is not set; accepted: pixels, as 224")
    splits, classes = image_folder.load(Path(folder), size, Path(cache) if cache else None)
    return Dataset("folder", **splits, classes=classes)


def _from_function(reference: str) -> Dataset:
    place = f"dataset '{reference}'"
    made = resolve(reference, "dataset", DatasetError)()
    if isinstance(made, Dataset):
        return made
    if isinstance(made, Mapping) and set(made) == {"train", "valid", "test"}:
        made = (made["train"], made["valid"], made["test"])
    if not isinstance(made, tuple | list) or len(made) != 3:
        raise DatasetError(
            f"{place} returned a {type(made).__name__}; accepted: a Dataset, or train, valid and "
            "test as a tuple or a dict, each (images, labels)"
        )
    train, valid, test = (
        _arrays(f"{place}, {part}", split)
        for part, split in zip(("train", "valid", "test"), made, strict=True)
    )
    classes = 1 + max(int(labels.max(initial=0)) for _, labels in (train, valid, test))
    return Dataset(reference, train, valid, test, classes)


def _arrays(place: str, split: Any) -> Split:
    if not isinstance(split, tuple | list) or len(split) != 2:
        raise DatasetError(f"{place} is a {type(split).__name__}; accepted: (images, labels)")
    images, labels = np.asarray(split[0]), np.asarray(split[1])
    if images.dtype == np.float64:
        images = images.astype(np.float32)
    if labels.dtype.kind not in "ui":
        raise DatasetError(f"{place}: labels are {labels.dtype}; accepted: whole numbers")
    return images, labels.astype(np.int64)


def _check(place: str, split: Split, classes: int) -> None:
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
