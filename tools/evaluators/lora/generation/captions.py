"""A folder of images with captions, as plain arrays.

numpy and Pillow only: worker processes fork after loading.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from lm_searcher.spaces.errors import DatasetError, one_line

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
METADATA = "metadata.jsonl"
ACCEPTED = (
    f'accepted: {METADATA} with {{"file_name": ..., "text": ...}} a line, '
    "or NAME.txt beside NAME.png"
)
FEWEST = 3


@dataclass(frozen=True)
class Captioned:
    """Images, uint8 of shape [n, 3, size, size], and a caption for each."""

    images: NDArray[np.uint8]
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)

    def rows(self, chosen: Sequence[int]) -> Captioned:
        """The images and captions with these row numbers."""
        return Captioned(self.images[list(chosen)], tuple(self.captions[i] for i in chosen))


@dataclass(frozen=True)
class CaptionedSplits:
    """Images to train on, to steer the search by, and to report at the end."""

    train: Captioned
    valid: Captioned
    test: Captioned


def load_captioned(folder: Path, size: int) -> CaptionedSplits:
    """The images of a folder, a sixth of them (at least one) for validation and as many for test.

    The same images in every call. An image that is not square is cropped at its centre. Raises
    DatasetError.
    """
    if not folder.is_dir():
        raise DatasetError(f"image folder '{folder}': no such directory")
    names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in IMAGES)
    if len(names) < FEWEST:
        raise DatasetError(
            f"image folder '{folder}' has {len(names)} images ({', '.join(IMAGES)}); accepted: "
            f"{FEWEST} or more, to train on, to validate and to test"
        )
    captions = _captions(folder, names)
    every = Captioned(np.stack([_image(folder / name, size) for name in names]), captions)
    # RandomState: numpy promises that its stream never changes.
    order = [int(i) for i in np.random.RandomState(0).permutation(len(names))]
    held = max(1, len(names) // 6)
    return CaptionedSplits(
        every.rows(order[2 * held :]), every.rows(order[:held]), every.rows(order[held : 2 * held])
    )


def _image(path: Path, size: int) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetError(f"image '{path}' cannot be read: {_reason(error)}") from None
    fitted = ImageOps.fit(upright, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(fitted, dtype=np.uint8).transpose(2, 0, 1)


def _captions(folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    listed = _listed(folder / METADATA, names) if (folder / METADATA).exists() else {}
    captions = []
    for name in names:
        beside = (folder / name).with_suffix(".txt")
        text = listed.get(name)
        if text is None and beside.exists():
            text = _read(beside)
        if text is None and not listed and not any(folder.glob("*.txt")):
            raise DatasetError(f"image folder '{folder}' has no captions; {ACCEPTED}")
        if not (text or "").strip():
            raise DatasetError(f"image '{folder / name}' has no caption; {ACCEPTED}")
        captions.append(" ".join(str(text).split()))
    return tuple(captions)


def _listed(path: Path, names: Sequence[str]) -> dict[str, str]:
    captions: dict[str, str] = {}
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if not line.strip():
            continue
        place = f"'{path}', line {number}"
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise DatasetError(f"{place} is no valid JSON: {error}") from None
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(key), str) for key in ("file_name", "text")
        ):
            raise DatasetError(f"{place}: accepted: an object with file_name and text")
        if entry["file_name"] not in names:
            raise DatasetError(f"{place}: no image '{entry['file_name']}' in the folder")
        captions[entry["file_name"]] = entry["text"]
    return captions


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"'{path}' cannot be read: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error, 200)
