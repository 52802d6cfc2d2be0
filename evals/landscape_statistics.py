"""What a landscape looks like, in numbers that do not depend on its scale.

Variance, importance and correlation are of ranks (the share of the sample that is worse), so that
a long tail does not decide them; skewness and tails are of the values themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from lm_searcher.spaces.landscapes.space_shape import SpaceShape
from lm_searcher.spaces.ncode import Codes

Values = NDArray[np.float64]
Rows = NDArray[np.intp]
Halves = tuple[Rows, Rows]

RIDGES = (0.1, 3.0, 100.0)
"""Penalties that are tried; the one that predicts best is taken."""

TOP = 0.01
LEAST_PAIRS = 100
"""Pairs of neighbours below which no correlation is given."""


@dataclass(frozen=True)
class Statistics:
    """One landscape's. Higher values are better designs."""

    additive: float
    """Share of the variance of ranks that a sum over positions predicts, cross-validated."""
    pairwise: float
    """What a sum over pairs of positions predicts beyond that."""
    rest: float
    """What neither predicts."""
    skewness: float
    lower_tail: float
    """(median - 1 % quantile) / (99 % quantile - median)."""
    upper_tail: float
    """(best - median) / (75 % quantile - 25 % quantile)."""
    first: float
    """Share of the most important position in the variance of the options' means."""
    spread: float
    """How many positions matter, of those there are: 1 if all do alike."""
    near1: float
    """Correlation of ranks of two designs that differ at one position."""
    near2: float
    top_agreement: float
    """How far the best 1 % share the best design's options: 0 by chance, 1 all of them."""


def statistics(
    shape: SpaceShape,
    codes: Codes,
    values: Values,
    look_up: Callable[[Codes], Values],
    rng: np.random.Generator,
) -> Statistics:
    """The statistics of a sample of distinct designs: `codes` [n, positions] and `values` [n],
    not all equal. `look_up` gives the values of others, NaN where they are not known.
    """
    ordered = np.sort(values)
    ranks = standing(values, ordered)
    order = rng.permutation(len(ranks))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    additive = additive_share(one_hot(shape, codes), ranks, halves)
    both = pair_share(codes, ranks, halves)
    first, spread = concentration(shape, codes, ranks)
    low, lower, middle, upper, high = np.quantile(values, [0.01, 0.25, 0.5, 0.75, 0.99])
    z = (values - values.mean()) / values.std()
    near = [correlation(shape, codes, ranks, ordered, look_up, edits, rng) for edits in (1, 2)]
    return Statistics(
        additive=additive,
        pairwise=max(0.0, both - additive),
        rest=1 - max(both, additive),
        skewness=float((z**3).mean()),
        lower_tail=_ratio(middle - low, high - middle),
        upper_tail=_ratio(values.max() - middle, upper - lower),
        first=first,
        spread=spread,
        near1=near[0],
        near2=near[1],
        top_agreement=top_agreement(shape, codes, values),
    )


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 1e-12 else float("nan")


def standing(values: Values, ordered: Values) -> Values:
    """The share of `ordered` (a sorted sample) that is worse, equal ones counted half; NaN for
    NaN."""
    left, right = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return np.where(np.isnan(values), np.nan, (left + right) / (2 * len(ordered)))


def one_hot(shape: SpaceShape, codes: Codes) -> Values:
    """A column an option, shape [n, options in all]."""
    columns = [
        codes[:, p, None] == np.arange(options) for p, options in enumerate(shape.cardinalities)
    ]
    return np.concatenate(columns, axis=1).astype(np.float64)


def additive_share(columns: Values, target: Values, halves: Halves) -> float:
    """Share of the target's variance that ridge regression on `columns` predicts."""

    def fit(train: Rows, test: Rows, ridge: float) -> Values:
        inner = columns[train].T @ columns[train] + ridge * np.eye(columns.shape[1])
        centred = target[train] - target[train].mean()
        weights = linalg.solve(inner, columns[train].T @ centred, assume_a="pos")
        return np.asarray(target[train].mean() + columns[test] @ weights)

    return predicted_share(fit, target, halves)


def pair_share(codes: Codes, target: Values, halves: Halves) -> float:
    """The same for a column an option and one a pair of options, of which there may be tens of
    thousands: by the kernel."""
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
    """Share of the target's variance that `fit` predicts of each half from the other, with the
    best of RIDGES; at least 0."""
    best, variance = 0.0, float(((target - target.mean()) ** 2).sum())
    for ridge in RIDGES:
        error = 0.0
        for train, test in (halves, halves[::-1]):
            error += float(((target[test] - fit(train, test, ridge)) ** 2).sum())
        best = max(best, 1 - error / variance)
    return best


def concentration(shape: SpaceShape, codes: Codes, ranks: Values) -> tuple[float, float]:
    """(`first`, `spread`) of Statistics, what chance adds to the options' means taken off."""
    importance = np.zeros(shape.positions)
    centred = ranks - ranks.mean()
    for p, options in enumerate(shape.cardinalities):
        count = np.bincount(codes[:, p], minlength=options)
        sums = np.bincount(codes[:, p], centred, minlength=options)
        between = float((sums**2 / np.maximum(count, 1)).sum()) / len(ranks)
        importance[p] = max(0.0, between - (np.sum(count > 0) - 1) * centred.var() / len(ranks))
    if importance.sum() <= 0:
        return float("nan"), float("nan")
    share = importance / importance.sum()
    return float(share.max()), float(1 / (share**2).sum() / shape.positions)


def neighbours(shape: SpaceShape, codes: Codes, edits: int, rng: np.random.Generator) -> Codes:
    """A copy in which each design differs at exactly `edits` positions."""
    order = rng.random(codes.shape)
    order[:, shape.cardinalities < 2] = 2  # nothing to change there
    chosen = order.argsort(axis=1).argsort(axis=1) < edits
    step = rng.integers(1, np.maximum(shape.cardinalities, 2), size=codes.shape)
    return np.where(chosen, (codes + step) % shape.cardinalities, codes).astype(np.uint8)


def correlation(
    shape: SpaceShape,
    codes: Codes,
    ranks: Values,
    ordered: Values,
    look_up: Callable[[Codes], Values],
    edits: int,
    rng: np.random.Generator,
) -> float:
    """1 less the mean squared difference of ranks over twice their variance; NaN where too few
    neighbours are known."""
    other = standing(look_up(neighbours(shape, codes, edits, rng)), ordered)
    known = ~np.isnan(other)
    if known.sum() < LEAST_PAIRS:
        return float("nan")
    return float(1 - ((ranks - other)[known] ** 2).mean() / (2 * ranks.var()))


def top_agreement(shape: SpaceShape, codes: Codes, values: Values) -> float:
    """`top_agreement` of Statistics; positions of one option do not count."""
    first, *others = np.argsort(-values, kind="stable")[: max(2, round(TOP * len(values)))]
    free = shape.cardinalities > 1
    same = (codes[others] == codes[first]).mean(axis=0)[free]
    chance = 1 / shape.cardinalities[free]
    return float(((same - chance) / (1 - chance)).mean())
