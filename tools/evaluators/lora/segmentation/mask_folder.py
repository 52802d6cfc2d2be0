"""The user's images and masks: `images/NAME.*` and `masks/NAME.png` in a folder.

Splits are the subfolders `train`, `valid` and `test`, each with images and masks. Without them,
a tenth of the folder's pairs is for validation and a tenth for test. Images and masks are
stretched to the base's square, images linearly and masks by nearest pixel; scores are computed
on that square.

A mask is a PNG of one channel whose values are classes: 0 the background, then 1, 2, ..., and
255 for a pixel without a label. If all masks hold only 0 and 255, 255 is class 1.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lm_searcher.spaces.errors import DatasetError, one_line
from lm_searcher.tools.evaluators.lora.segmentation.labelled_images import (
    UNLABELLED,
    Bytes,
    Masked,
    MaskedData,
)

ACCEPTED = "a folder with images/NAME.* and masks/NAME.png, or train, valid and test with these"
SPLITS = ("train", "valid", "test")
Pair = tuple[Path, Path]


def load_masked(folder: Path, side: int, channels: int, classes: int | None = None) -> MaskedData:
    """The folder's pairs as squares of `side` pixels with 1 (grey) or 3 (RGB) channels.

    `classes` counts the background; by default it is one more than the highest class in a
    training mask. Raises DatasetError for files that are missing, damaged or do not match.
    """
    pairs = _splits(folder)
    parts = [_read(pairs[name], side, channels) for name in SPLITS]
    values = np.unique(np.concatenate([np.unique(part.masks) for part in parts]))
    if classes in (None, 2) and np.isin(values, (0, 255)).all():
        parts = [Masked(part.images, (part.masks == 255).astype(np.uint8)) for part in parts]
    count = classes or max(2, 1 + max(_present(parts[0])))
    for name, part in zip(SPLITS, parts, strict=True):
        _check_classes(part, pairs[name], _present(parts[0]), classes)
    if missing := sorted(set(range(count)) - _present(parts[0])):
        raise DatasetError(
            f"folder '{folder}': class {missing[0]} is in no training mask; "
            f"accepted: each class from 0 to {count - 1} in at least one"
        )
    train, valid, test = parts
    return MaskedData(train, valid, test, count)


def _splits(folder: Path) -> dict[str, list[Pair]]:
    if not folder.is_dir():
        raise DatasetError(f"folder '{folder}': no such folder; accepted: {ACCEPTED}")
    if (folder / "train").is_dir():
        return {name: _pairs(folder / name) for name in SPLITS}
    pairs = _pairs(folder)
    if len(pairs) < 3:
        raise DatasetError(f"folder '{folder}' has {len(pairs)} images; accepted: 3 or more")
    # RandomState: numpy promises that its stream never changes.
    order = np.random.RandomState(0).permutation(len(pairs))
    tenth = max(1, len(pairs) // 10)
    rows = np.split(order, [len(pairs) - 2 * tenth, len(pairs) - tenth])
    return {name: [pairs[i] for i in part] for name, part in zip(SPLITS, rows, strict=True)}


def _pairs(folder: Path) -> list[Pair]:
    images, masks = _files(folder / "images"), _files(folder / "masks")
    for name, path in masks.items():
        if path.suffix.lower() != ".png":
            raise DatasetError(f"mask '{path}'; accepted: PNG, which keeps each value as it is")
        if name not in images:
            raise DatasetError(f"mask '{path}' has no image '{folder / 'images' / name}.*'")
    for name, path in images.items():
        if name not in masks:
            raise DatasetError(f"image '{path}' has no mask '{folder / 'masks' / name}.png'")
    if not images:
        raise DatasetError(f"folder '{folder / 'images'}' has no images; accepted: {ACCEPTED}")
    return [(images[name], masks[name]) for name in sorted(images)]


def _files(folder: Path) -> dict[str, Path]:
    """Image files by name without suffix; other files are ignored."""
    if not folder.is_dir():
        raise DatasetError(f"folder '{folder}': no such folder; accepted: {ACCEPTED}")
    endings = Image.registered_extensions()
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in endings:
            continue
        if path.stem in found:
            raise DatasetError(f"'{found[path.stem]}' and '{path.name}' have one name")
        found[path.stem] = path
    return found


def _read(pairs: Sequence[Pair], side: int, channels: int) -> Masked:
    images = np.empty((len(pairs), channels, side, side), np.uint8)
    masks = np.empty((len(pairs), side, side), np.uint8)
    for row, (image_path, mask_path) in enumerate(pairs):
        image = _opened(image_path, "L" if channels == 1 else "RGB")
        mask = _classes_of(mask_path)
        if image.size != (mask.shape[1], mask.shape[0]):
            raise DatasetError(
                f"mask '{mask_path}' is {mask.shape[1]}x{mask.shape[0]}, its image "
                f"{image.width}x{image.height}; accepted: the same size"
            )
        square = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
        images[row] = square.reshape(side, side, channels).transpose(2, 0, 1)
        nearest = Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST)
        masks[row] = np.asarray(nearest)
    return Masked(images, masks)


def _classes_of(path: Path) -> Bytes:
    """A mask's values [height, width]."""
    values: Any = np.asarray(_opened(path))
    if values.ndim == 3 and values.shape[2] == 3 and (values == values[:, :, :1]).all():
        values = values[:, :, 0]  # grey, saved as RGB
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise DatasetError(f"mask '{path}' is in colour; accepted: one channel of classes")
    if values.min() < 0 or values.max() > 255:
        beyond = values.min() if values.min() < 0 else values.max()
        raise DatasetError(f"mask '{path}' holds {beyond}; accepted: 0 to 255")
    found: Bytes = values.astype(np.uint8)
    return found


def _opened(path: Path, mode: str | None = None) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image.convert(mode) if mode else image.copy()
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise DatasetError(
            f"'{path}' cannot be read as an image ({one_line(error, 120)})"
        ) from None


def _present(part: Masked) -> set[int]:
    return set(np.unique(part.masks).tolist()) - {UNLABELLED}


def _check_classes(
    part: Masked, pairs: Sequence[Pair], learned: set[int], classes: int | None
) -> None:
    for value in sorted(_present(part)):
        beyond = classes is not None and value >= classes
        if not beyond and value in learned:
            continue
        row = int(np.flatnonzero((part.masks == value).any(axis=(1, 2)))[0])
        place = f"mask '{pairs[row][1]}' holds class {value}"
        if beyond:
            raise DatasetError(
                f"{place}; accepted: 0 to {(classes or 0) - 1}, and {UNLABELLED} for no label"
            )
        raise DatasetError(f"{place}, which no training mask has")
