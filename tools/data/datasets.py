"""Image classification data by name.

numpy only: worker processes fork after loading, so nothing here starts a thread or touches an
accelerator.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lm_searcher.spaces.errors import DatasetError, unknown
from lm_searcher.tools.data import cifar
from lm_searcher.tools.data.image_dataset import Dataset, Split, hold_out
from lm_searcher.tools.data.texts import NAMES as TEXTS
from lm_searcher.tools.importing import resolve

NAMES = ("digits", "cifar10", "cifar100")
"""Data sets that come with a name; "folder" is the user's own images."""


def load_dataset(
    name: str,
    folder: str | Path | None = None,
    image_size: int | None = None,
    cache: str | Path | None = None,
) -> Dataset:
    """Load a data set by name, or from the user's own "module:function".

    `folder` holds the unpacked python version of CIFAR, or for the name "folder" the images that
    `image_folder.load` describes; only the latter uses `image_size` and `cache`. The user's
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
    # A tenth: 5,000 of CIFAR's 50,000 images.
    train, valid = hold_out(train, len(train[1]) // 10)
    return Dataset(name, train, valid, test, classes=10 if name == "cifar10" else 100)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits  # takes half a second to import

    bunch: Any = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]  # whole numbers from 0 to 16
    rest, test = hold_out((images, bunch.target.astype(np.int64)), 397)
    train, valid = hold_out(rest, 400)
    return Dataset("digits", train, valid, test, classes=10)


def _from_images(folder: str | Path | None, size: int | None, cache: str | Path | None) -> Dataset:
    from lm_searcher.tools.data import image_folder  # imports Pillow

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
