"""Several objectives: Pareto fronts, hypervolume, scalarisation.

`values` have shape [trials, objectives] and are higher-is-better; a row with a NaN is a trial
without values. `violations` of the constraints have shape [trials] and are 0 for feasible trials.
Dominance and hypervolume are computed by moocore.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

AUGMENTED = 0.05
"""The weight of the sum in a scalarisation (Knowles, ParEGO, 2006, equation 2)."""


@dataclass(frozen=True)
class Goal:
    """One objective: a metric and its direction, `max` or `min`."""

    metric: str
    direction: str = "max"

    @property
    def sign(self) -> float:
        """The factor that makes the metric higher-is-better."""
        return 1.0 if self.direction == "max" else -1.0


def _known(values: Values) -> NDArray[np.bool_]:
    return np.logical_not(np.isnan(values).any(axis=1))


def draw_weights(objectives: int, rng: np.random.Generator) -> Values:
    """Weights of the objectives, uniform on the simplex, shape [objectives]."""
    return rng.dirichlet(np.ones(objectives))


def scalarised(values: Values, violations: Values, weights: Values) -> Values:
    """One score for each trial, higher is better, shape [trials]; NaN where a value is missing.

    The augmented Tchebycheff distance to the best of each objective (Knowles, ParEGO, 2006). The
    distance is the mean of two: the gap relative to the objective's range over the front, and the
    share of trials that are better. With ranges alone, one outlier makes all other trials look
    alike; with shares alone, small and large gains look alike. A single objective is its own
    score. Infeasible trials score below the feasible ones, by violation (Deb 2000).
    """
    known = _known(values)
    scores = np.full(len(values), np.nan)
    if not known.any():
        return scores
    feasible: NDArray[np.bool_] = known & (violations <= 0)
    if values.shape[1] == 1:
        scores[known] = values[known, 0]
    else:
        weighted = weights * _distances(values, known, feasible)
        scores[known] = -(weighted.max(axis=1) + AUGMENTED * weighted.sum(axis=1))
    infeasible = known & ~feasible
    if infeasible.any():
        floor = scores[feasible].min() if feasible.any() else 0.0
        spread = np.ptp(scores[feasible]) if feasible.any() else 0.0
        step = max(spread, np.spacing(abs(floor)), 1e-9)
        scores[infeasible] = floor - step * (0.1 + violations[infeasible])
    return scores


def _distances(values: Values, known: NDArray[np.bool_], feasible: NDArray[np.bool_]) -> Values:
    """Each trial's distance to the best of each objective, [trials with values, objectives]."""
    low, high = _ranges(values, known, feasible)
    among = values[feasible if feasible.any() else known]
    shares = [
        1 - np.searchsorted(np.sort(column), own, side="right") / len(column)
        for column, own in zip(among.T, values[known].T, strict=True)
    ]
    distances: Values = (high - values[known]) / (high - low) + np.stack(shares, axis=1)
    return np.asarray(distances / 2)


def _ranges(
    values: Values, known: NDArray[np.bool_], feasible: NDArray[np.bool_]
) -> tuple[Values, Values]:
    """Worst and best of each objective on the front; where they are equal, of all trials."""
    best = values[front(values, np.where(feasible, 0.0, 1.0))] if feasible.any() else values[known]
    low, high = best.min(axis=0), best.max(axis=0)
    everywhere = values[known].min(axis=0), values[known].max(axis=0)
    flat = high - low <= 0
    low, high = np.where(flat, everywhere[0], low), np.where(flat, everywhere[1], high)
    return np.where(high - low <= 0, high - 1.0, low), high


def penalised(values: Values, violations: Values) -> Values:
    """The values, with those of infeasible trials below all feasible ones, by violation.

    For methods that use dominance but no constraints. Shape [trials, objectives].
    """
    infeasible = violations > 0
    if not infeasible.any() or np.isnan(values).all():
        return values
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    step = np.where(high > low, high - low, 1.0)
    below = low - step * (1 + violations[:, None])
    return np.where(infeasible[:, None] & ~np.isnan(values), below, values)


def front(values: Values, violations: Values) -> NDArray[np.bool_]:
    """Which trials are on the Pareto front of the feasible ones, shape [trials]; ties included."""
    inside = np.flatnonzero(_known(values) & (violations <= 0))
    mask = np.zeros(len(values), dtype=bool)
    if len(inside):
        mask[inside] = moocore.is_nondominated(values[inside], maximise=True, keep_weakly=True)
    return mask


def domination_rank(values: Values, violations: Values) -> NDArray[np.float64]:
    """Non-domination rank, shape [trials]: 0 on the front, 1 on the front of the rest, and so on.

    NaN where a value is missing. Infeasible trials rank after all feasible ones, by violation.
    """
    known = _known(values)
    inside, outside = known & (violations <= 0), known & (violations > 0)
    ranks = np.full(len(values), np.nan)
    if inside.any():
        ranks[inside] = moocore.pareto_rank(values[inside], maximise=True)
    if outside.any():
        last = ranks[inside].max() + 1 if inside.any() else 0.0
        ranks[outside] = last + np.unique(violations[outside], return_inverse=True)[1]
    return ranks


def reference_of(values: Values) -> Values:
    """A reference point for the hypervolume, shape [objectives].

    It lies a tenth of the range below the worst of each objective. Rows with NaN are ignored; at
    least one row must be without NaN.
    """
    known = values[_known(values)]
    low, high = known.min(axis=0), known.max(axis=0)
    return np.asarray(low - 0.1 * np.where(high > low, high - low, 1.0), np.float64)


def hypervolume(values: Values, reference: Values) -> float:
    """The volume between `reference` and the rows; 0 without rows."""
    known = values[_known(values)]
    return float(moocore.hypervolume(known, ref=reference, maximise=True)) if len(known) else 0.0


def hypervolume_curve(values: Values, violations: Values, reference: Values) -> Values:
    """The hypervolume of the first 1, 2, ... trials, feasible ones only; shape [trials]."""
    curve = np.zeros(len(values))
    best = values[:0]
    volume = 0.0
    for i, row in enumerate(values):
        dominated = (best >= row).all(axis=1).any()
        if violations[i] <= 0 and not np.isnan(row).any() and not dominated:
            best = np.concatenate([best[~(row >= best).all(axis=1)], row[None]])
            volume = hypervolume(best, reference)
        curve[i] = volume
    return curve


def contributions(values: Values, reference: Values) -> Values:
    """The part of the hypervolume that each row adds to the others, shape [rows]."""
    return np.asarray(moocore.hv_contributions(values, ref=reference, maximise=True), np.float64)


def spread_out(values: Values, most: int) -> Sequence[int]:
    """At most `most` rows that represent a front: those with the largest contributions, first."""
    if not len(values):
        return []
    order = np.argsort(-contributions(values, reference_of(values)), kind="stable")
    return [int(i) for i in order[:most]]
