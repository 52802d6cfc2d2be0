"""Shares of a landscape's variance that sums over positions, or over pairs of them, predict."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from lm_searcher.spaces.landscapes.space_shape import SpaceShape
from lm_searcher.spaces.ncode import Codes

Values = NDArray[np.float64]
Rows = NDArray[np.intp]
Halves = tuple[Rows, Rows]

RIDGES = (0.1, 3.0, 100.0)
"""Penalties of the ridge regression; the one that predicts best is used."""


def one_hot(shape: SpaceShape, codes: Codes) -> Values:
    """One column for each option of each position, shape [n, options of all positions]."""
    columns = [
        codes[:, p, None] == np.arange(options) for p, options in enumerate(shape.cardinalities)
    ]
    return np.concatenate(columns, axis=1).astype(np.float64)


def additive_share(columns: Values, target: Values, halves: Halves) -> float:
    """The share of the target's variance that ridge regression on `columns` predicts."""

    def fit(train: Rows, test: Rows, ridge: float) -> Values:
        inner = columns[train].T @ columns[train] + ridge * np.eye(columns.shape[1])
        centred = target[train] - target[train].mean()
        weights = linalg.solve(inner, columns[train].T @ centred, assume_a="pos")
        return np.asarray(target[train].mean() + columns[test] @ weights)

    return predicted_share(fit, target, halves)


def pair_share(codes: Codes, target: Values, halves: Halves) -> float:
    """The same for one column for each option and each pair of options.

    These may be tens of thousands of columns, so it is computed with their kernel.
    """
    agree = np.zeros((len(codes), len(codes)), np.uint8)
    for column in codes.T:
        agree += column[:, None] == column
    count = agree.astype(np.float64)
    kernel = count + count * (count - 1) / 2

    def fit(train: Rows, test: Rows, ridge: float) -> Values:
        inner = kernel[np.ix_(train, train)] + ridge * np.eye(len(train))
        centred = target[train] - target[train].mean()
        weights = linalg.solve(inner, centred, assume_a="pos")
        return np.asarray(target[train].mean() + kernel[np.ix_(test, train)] @ weights)

    return predicted_share(fit, target, halves)


def predicted_share(
    fit: Callable[[Rows, Rows, float], Values], target: Values, halves: Halves
) -> float:
    """The share of the target's variance that `fit` predicts for each half from the other.

    With the best of RIDGES; at least 0.
    """
    best, variance = 0.0, float(((target - target.mean()) ** 2).sum())
    for ridge in RIDGES:
        error = 0.0
        for train, test in (halves, halves[::-1]):
            error += float(((target[test] - fit(train, test, ridge)) ** 2).sum())
        best = max(best, 1 - error / variance)
    return best
