"""A folder of images by class: train/CLASS/*.jpg, and optionally val/ and test/.

Missing splits are held out, the same images in every call and from each class its share. Without
test/, half of val/ is the test split. Without val/, a tenth of train/ is for validation, and
another tenth for test if test/ is missing too. `sources` tells which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import DatasetError, unknown
from lm_searcher.tools.data.image_dataset import hold_out
from lm_searcher.tools.data.image_files import SUFFIXES, decoded

ACCEPTED = "a folder with train/CLASS/*.jpg, and val/ and test/ of the same classes if there are"
FOLDERS = ("train", "val", "test")

Part = tuple[list[Path], NDArray[np.int64]]
"""Files, and the class of each, int64 [n]: its index among the sorted class names."""

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]


def sources(folder: Path) -> dict[str, str]:
    """The origin of the splits valid and test, given the subfolders of `folder`."""
    val, test = ((folder / name).is_dir() for name in ("val", "test"))
    if val:
        half = "half of val, held out"
        return {"valid": "val" if test else half, "test": "test" if test else half}
    tenth = "a tenth of train, held out"
    return {"valid": tenth, "test": "test" if test else tenth}


def load(folder: Path, size: int, cache: Path | None) -> tuple[dict[str, Split], int]:
    """The splits train, valid and test, and the number of classes; images uint8 [n, 3, size, size].

    `cache` is a folder for the decoded images, which are then read from the disk when they are
    used; None keeps them in memory. Raises DatasetError that names the folder or file for another
    layout, an empty class, classes that differ between splits, or a damaged image.
    """
    parts, names = _parts(folder)
    train = parts["train"]
    tenth = max(1, len(train[0]) // 10)
    if "val" in parts:
        valid = parts["val"]
        if "test" not in parts:
            valid, parts["test"] = _hold_out(valid, len(valid[0]) // 2, folder / "val")
    else:
        train, valid = _hold_out(train, tenth, folder / "train")
    if "test" not in parts:
        train, parts["test"] = _hold_out(train, tenth, folder / "train")
    counts = np.bincount(train[1], minlength=len(names))
    if not counts.all():
        raise DatasetError(
            f"'{folder / 'train' / names[int(counts.argmin())]}': no image is left to learn from "
            "when some are held out; accepted: at least 3 images a class, or folders val and test"
        )
    splits = {
        name: (decoded(files, size, cache), labels)
        for name, (files, labels) in (("train", train), ("valid", valid), ("test", parts["test"]))
    }
    return splits, len(names)


def _parts(folder: Path) -> tuple[dict[str, Part], list[str]]:
    """The files of each existing split, and the class names."""
    if not folder.is_dir():
        raise DatasetError(f"dataset 'folder': no folder '{folder}'; accepted: {ACCEPTED}")
    found = [path.name for path in _folders(folder)]
    if "train" not in found:
        raise DatasetError(
            f"dataset 'folder': no folder '{folder / 'train'}'; accepted: {ACCEPTED}"
        )
    for name in found:
        if name.startswith(FOLDERS) and name not in FOLDERS:  # such as validation
            raise DatasetError(f"'{folder}': {unknown('folder', name, FOLDERS)}")
    listed = {name: _classes(folder / name) for name in FOLDERS if name in found}
    names = list(listed["train"])
    if len(names) < 2:
        raise DatasetError(f"'{folder / 'train'}': only class '{names[0]}'; accepted: at least 2")
    for name, classes in listed.items():
        _same_classes(folder / name, names, classes)
    return {name: _part(list(classes.values())) for name, classes in listed.items()}, names


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _classes(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class at any depth, sorted; other files are ignored."""
    classes = {}
    for path in _folders(folder):
        files = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
        if not files:
            raise DatasetError(
                f"'{path}': a class without images; accepted: files {' '.join(SUFFIXES)}"
            )
        classes[path.name] = files
    if not classes:
        raise DatasetError(f"'{folder}': no class folders; accepted: {ACCEPTED}")
    return classes


def _same_classes(folder: Path, train: Sequence[str], here: Mapping[str, object]) -> None:
    strange = [name for name in here if name not in set(train)]
    if strange:
        raise DatasetError(
            f"'{folder / strange[0]}': class '{strange[0]}' is missing from training"
            f"{_more(strange)}; accepted: the class folders of train"
        )
    lacking = [name for name in train if name not in here]
    if lacking:
        raise DatasetError(
            f"'{folder}': class '{lacking[0]}' of train is not there{_more(lacking)}; "
            "accepted: the class folders of train"
        )


def _more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _part(classes: Sequence[list[Path]]) -> Part:
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in classes])
    return [file for files in classes for file in files], labels.astype(np.int64)


def _hold_out(part: Part, count: int, folder: Path) -> tuple[Part, Part]:
    files, labels = part
    if not 0 < count < len(files):
        raise DatasetError(
            f"'{folder}': {len(files)} images are too few to hold some out; accepted: at least 2"
        )
    kept, held = hold_out((np.arange(len(files)), labels), count)
    return ([files[i] for i in kept[0]], kept[1]), ([files[i] for i in held[0]], held[1])
