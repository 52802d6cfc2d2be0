"""Scenes composed from scikit-learn's handwritten digits, each pixel labelled.

A scene is a grey canvas of 32x32 pixels with up to four zeros, ones and fours: one in each
quarter, so that none covers another, at a random place and of a random size. Training, validation
and test use different digits, and each split is the same in every call.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lm_searcher.tools.data.datasets import load_dataset
from lm_searcher.tools.evaluators.lora.segmentation.labelled_images import Bytes, Masked, MaskedData

SIDE = 32
DIGITS = (0, 1, 4)
"""The digits of the classes 1, 2 and 3; class 0 is the background."""
CLASSES = 1 + len(DIGITS)

_QUARTER = SIDE // 2
_SIZES = (10.0, 15.5)
_EMPTY = 0.15  # the share of quarters without a digit
_INK = 0.35  # the least ink of a pixel that is labelled as the digit
_SEEDS = {"train": 1, "valid": 2, "test": 3}

Floats = NDArray[np.float32]


def scene_data(train: int, held_out: int, shifted: bool) -> MaskedData:
    """`train` scenes to train on, and `held_out` each for validation and test."""
    learned = scenes("train", train, shifted)
    valid, test = (scenes(part, held_out, shifted) for part in ("valid", "test"))
    return MaskedData(learned, valid, test, CLASSES)


def scenes(part: str, count: int, shifted: bool) -> Masked:
    """`count` scenes of `part` (train, valid or test), grey and 32x32, plain or `shifted` ones.

    Shifted scenes have dark digits on a light ground of low contrast, with lines, blobs, stripes
    and noise.
    """
    data = load_dataset("digits")
    images, labels = getattr(data, part)
    # RandomState: numpy promises that its stream never changes.
    rng = np.random.RandomState(_SEEDS[part] + 10 * shifted)
    ink, masks = _compose(images[:, 0].astype(np.float32) / 16, labels, count, rng)
    canvas = _shift(ink, rng) if shifted else ink
    return Masked(np.round(255 * canvas).astype(np.uint8)[:, None], masks)


def _compose(
    digits: Floats, labels: NDArray[np.int64], count: int, rng: np.random.RandomState
) -> tuple[Floats, Bytes]:
    """Ink in [0, 1] and class of each pixel, both [count, 32, 32]."""
    known = np.isin(labels, DIGITS)
    digits, classes = digits[known], 1 + np.searchsorted(DIGITS, labels[known])
    ink = np.zeros((count, SIDE, SIDE), np.float32)
    masks = np.zeros((count, SIDE, SIDE), np.uint8)
    for corner in ((0, 0), (0, _QUARTER), (_QUARTER, 0), (_QUARTER, _QUARTER)):
        chosen = rng.randint(len(digits), size=count)
        size = rng.uniform(*_SIZES, size=count)
        top, left = (c + rng.uniform(size=count) * (_QUARTER - size) for c in corner)
        there = rng.uniform(size=count) >= _EMPTY
        rows, columns = _resampling(top, size), _resampling(left, size)
        drawn = rows @ digits[chosen] @ columns.transpose(0, 2, 1) * there[:, None, None]
        ink += drawn
        masks += (drawn > _INK) * classes[chosen, None, None].astype(np.uint8)
    return np.minimum(ink, 1), masks


def _resampling(start: NDArray[np.float64], size: NDArray[np.float64]) -> Floats:
    """Weights that interpolate a digit's 8 pixels linearly at those of the canvas, [n, 32, 8]."""
    pixels = np.arange(SIDE) + 0.5
    places = (pixels - start[:, None]) / size[:, None] * 8 - 0.5
    weights = np.maximum(0, 1 - np.abs(places[:, :, None] - np.arange(8)))
    inside = (pixels >= start[:, None]) & (pixels <= (start + size)[:, None])
    inked: Floats = (weights * inside[:, :, None]).astype(np.float32)
    return inked


def _shift(ink: Floats, rng: np.random.RandomState) -> Floats:
    """Another domain: dark ink on a light, cluttered and noisy ground of low contrast."""
    n = len(ink)

    def draw(low: float, high: float) -> Floats:
        drawn: Floats = rng.uniform(low, high, size=(n, 1, 1)).astype(np.float32)
        return drawn

    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)[:, None]
    clutter = np.zeros_like(ink)
    for _ in range(2):  # lines across the canvas
        angle, distance = draw(0, np.pi), draw(-0.4 * SIDE, 0.4 * SIDE)
        across = (x - SIDE / 2) * np.cos(angle) + (y - SIDE / 2) * np.sin(angle) - distance
        clutter = np.maximum(clutter, (np.abs(across) < draw(0.5, 1)) * draw(0.2, 0.4))
    for _ in range(2):  # soft blobs
        squared = (x - draw(0, SIDE)) ** 2 + (y - draw(0, SIDE)) ** 2
        clutter = np.maximum(clutter, np.exp(-squared / (2 * draw(2, 5) ** 2)) * draw(0.2, 0.4))
    angle, length = draw(0, np.pi), draw(4, 9)
    stripes = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / length)
    ground = 0.05 * stripes * draw(0, 1) + np.maximum(ink, clutter)
    noise = rng.normal(0, 0.05, size=ink.shape)
    shifted: Floats = np.clip(0.9 - draw(0.5, 0.8) * ground + noise, 0, 1).astype(np.float32)
    return shifted
