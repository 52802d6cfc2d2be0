"""Statistics of a landscape that do not depend on its scale.

Variance, importance and correlation are those of ranks (the share of the sample that is worse), so
that a long tail does not dominate; skewness and tails are those of the values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lm_searcher.evals.variance_shares import additive_share, one_hot, pair_share
from lm_searcher.spaces.landscapes.space_shape import SpaceShape
from lm_searcher.spaces.ncode import Codes

Values = NDArray[np.float64]

TOP = 0.01
LEAST_PAIRS = 100
"""With fewer pairs of neighbours, the correlation is NaN."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of one landscape, whose values are higher-is-better."""

    additive: float
    """Share of the variance of ranks that a sum over positions predicts, cross-validated."""
    pairwise: float
    """Additional share that a sum over pairs of positions predicts."""
    rest: float
    """Share that neither predicts."""
    skewness: float
    lower_tail: float
    """(median - 1 % quantile) / (99 % quantile - median)."""
    upper_tail: float
    """(best - median) / (75 % quantile - 25 % quantile)."""
    first: float
    """Share of the most important position in the variance of the options' means."""
    spread: float
    """Effective share of the positions that matter: 1 if all are equally important."""
    near1: float
    """Correlation of the ranks of two designs that differ at one position."""
    near2: float
    """The same for two positions."""
    top_agreement: float
    """Agreement of the best 1 % with the best design's options: 0 is chance, 1 is all options."""


def statistics(
    shape: SpaceShape,
    codes: Codes,
    values: Values,
    look_up: Callable[[Codes], Values],
    rng: np.random.Generator,
) -> Statistics:
    """The statistics of a sample of distinct designs.

    `codes` has shape [n, positions]; `values` has shape [n], and they are not all equal. `look_up`
    returns the values of other designs, NaN where they are unknown.
    """
    ordered = np.sort(values)
    ranks = quantiles(values, ordered)
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


def quantiles(values: Values, ordered: Values) -> Values:
    """The share of `ordered`, a sorted sample, that is worse; ties count half, NaN stays NaN."""
    left, right = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return np.where(np.isnan(values), np.nan, (left + right) / (2 * len(ordered)))


def concentration(shape: SpaceShape, codes: Codes, ranks: Values) -> tuple[float, float]:
    """(`first`, `spread`) of Statistics, corrected for the noise of the options' means."""
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
    order[:, shape.cardinalities < 2] = 2  # never changed: there is only one option
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
    """1 - the mean squared difference of ranks / (2 x their variance), between neighbours.

    NaN if fewer than LEAST_PAIRS neighbours are known.
    """
    other = quantiles(look_up(neighbours(shape, codes, edits, rng)), ordered)
    known = ~np.isnan(other)
    if known.sum() < LEAST_PAIRS:
        return float("nan")
    return float(1 - ((ranks - other)[known] ** 2).mean() / (2 * ranks.var()))


def top_agreement(shape: SpaceShape, codes: Codes, values: Values) -> float:
    """`top_agreement` of Statistics; positions with one option are ignored."""
    first, *others = np.argsort(-values, kind="stable")[: max(2, round(TOP * len(values)))]
    free = shape.cardinalities > 1
    same = (codes[others] == codes[first]).mean(axis=0)[free]
    chance = 1 / shape.cardinalities[free]
    return float(((same - chance) / (1 - chance)).mean())
