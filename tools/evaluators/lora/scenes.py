"""Scenes composed from scikit-learn's handwritten digits, each pixel labelled.

A scene is a grey canvas of 48x48 with up to four digits, one in each quarter so that none
covers another, at a random place and of a random size. The digits of training, validation and
test are different ones, and each split is always the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lm_searcher.tools.datasets import load_dataset

SIDE = 48
GROUPS = ((1, 4, 7), (0, 6, 8, 9), (2, 3, 5))
"""The digits of each class after 0, the background: strokes, loops and bends."""
CLASSES = 1 + len(GROUPS)

_QUARTER = SIDE // 2
_SIZES = (15.0, 23.0)
_EMPTY = 0.15  # the share of quarters without a digit
_INK = 0.35  # from how dark on a pixel is the digit's
_SEEDS = {"train": 1, "valid": 2, "test": 3}

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Scenes:
    """`images` [n, 1, 48, 48] and `masks` [n, 48, 48], both uint8; masks from 0 to CLASSES - 1."""

    images: Bytes
    masks: Bytes


@cache
def scenes(part: str, count: int, shifted: bool = False) -> Scenes:
    """The first `count` scenes of `part` (train, valid or test), as plain or as `shifted` ones.

    Shifted ones are dark on light, of low contrast, amid lines, blobs and stripes, under noise.
    """
    data = load_dataset("digits")
    images, labels = getattr(data, part)
    # RandomState, because numpy promises that its stream stays the same for ever.
    rng = np.random.RandomState(_SEEDS[part] + 10 * shifted)
    ink, masks = _compose(images[:, 0].astype(np.float32) / 16, labels, count, rng)
    canvas = _shift(ink, rng) if shifted else ink
    return Scenes(np.round(255 * canvas).astype(np.uint8)[:, None], masks)


def _compose(
    digits: Floats, labels: NDArray[np.int64], count: int, rng: np.random.RandomState
) -> tuple[Floats, Bytes]:
    """Ink in [0, 1] and class of each pixel, both [count, 48, 48]."""
    groups = np.zeros(10, np.uint8)
    for number, group in enumerate(GROUPS, start=1):
        groups[list(group)] = number
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
        masks += (drawn > _INK) * groups[labels[chosen]][:, None, None]
    return np.minimum(ink, 1), masks


def _resampling(start: NDArray[np.float64], size: NDArray[np.float64]) -> Floats:
    """Linear interpolation of the 8 pixels of a digit at those of the canvas, [n, 48, 8]."""
    pixels = np.arange(SIDE) + 0.5
    places = (pixels - start[:, None]) / size[:, None] * 8 - 0.5
    weights = np.maximum(0, 1 - np.abs(places[:, :, None] - np.arange(8)))
    inside = (pixels >= start[:, None]) & (pixels <= (start + size)[:, None])
    return (weights * inside[:, :, None]).astype(np.float32)


def _shift(ink: Floats, rng: np.random.RandomState) -> Floats:
    """Another domain: dark ink on a light, cluttered and noisy ground of low contrast."""
    n = len(ink)

    def draw(low: float, high: float) -> Floats:
        return rng.uniform(low, high, size=(n, 1, 1)).astype(np.float32)

    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)[:, None]
    clutter = np.zeros_like(ink)
    for _ in range(3):  # lines across the canvas
        angle, distance = draw(0, np.pi), draw(-20, 20)
        across = (x - SIDE / 2) * np.cos(angle) + (y - SIDE / 2) * np.sin(angle) - distance
        clutter = np.maximum(clutter, (np.abs(across) < draw(0.5, 1.2)) * draw(0.3, 0.6))
    for _ in range(2):  # soft blobs
        squared = (x - draw(0, SIDE)) ** 2 + (y - draw(0, SIDE)) ** 2
        clutter = np.maximum(clutter, np.exp(-squared / (2 * draw(2, 5) ** 2)) * draw(0.3, 0.6))
    angle, length = draw(0, np.pi), draw(4, 9)
    stripes = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / length)
    ground = 0.1 * stripes * draw(0, 1) + np.maximum(ink, clutter)
    noise = rng.normal(0, 0.06, size=ink.shape)
    return np.clip(0.9 - draw(0.4, 0.7) * ground + noise, 0, 1).astype(np.float32)
