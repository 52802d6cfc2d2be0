"""Several objectives and constraints: goals, Pareto fronts, hypervolume, scalarisation.

Arrays of `values` have shape [trials, objectives] and are higher-is-better; a row with a NaN is
of a trial without values. `violations`, shape [trials], are 0 for feasible trials. Dominance and
hypervolume are computed by moocore.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

AUGMENTED = 0.05
"""The share of the plain sum in a scalarisation (Knowles, ParEGO, 2006, equation 2)."""


@dataclass(frozen=True)
class Goal:
    """One objective: a metric, and whether `max` or `min` is better."""

    metric: str
    direction: str = "max"

    @property
    def sign(self) -> float:
        """What makes the metric higher-is-better."""
        return 1.0 if self.direction == "max" else -1.0


def _known(values: Values) -> NDArray[np.bool_]:
    return np.logical_not(np.isnan(values).any(axis=1))


def draw_weights(objectives: int, rng: np.random.Generator) -> Values:
    """Weights of the objectives, uniform on the simplex, shape [objectives]."""
    return rng.dirichlet(np.ones(objectives))


def scalarised(values: Values, violations: Values, weights: Values) -> Values:
    """One score a trial, higher is better, shape [trials]; NaN where a value is missing.

    The augmented Tchebycheff distance to the best of each objective (Knowles, ParEGO, 2006). The
    distance is the mean of two: in units of the objective's range over the front, and the share
    of trials that are better. One odd design can stretch a range until all others look alike;
    shares alone do not tell a small gain from a large one. A single objective is its own score.
    Infeasible trials stand below the feasible ones, those that violate least first (Deb 2000).
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
    """How far each known trial is from the best of each objective, [known, objectives]."""
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
    """The worst and the best of each objective on the front, or of all where they coincide."""
    best = values[front(values, np.where(feasible, 0.0, 1.0))] if feasible.any() else values[known]
    low, high = best.min(axis=0), best.max(axis=0)
    everywhere = values[known].min(axis=0), values[known].max(axis=0)
    flat = high - low <= 0
    low, high = np.where(flat, everywhere[0], low), np.where(flat, everywhere[1], high)
    return np.where(high - low <= 0, high - 1.0, low), high


def penalised(values: Values, violations: Values) -> Values:
    """The values, those of infeasible trials worse than all that are feasible, by violation.

    For what knows dominance but no constraints. Shape [trials, objectives].
    """
    infeasible = violations > 0
    if not infeasible.any() or np.isnan(values).all():
        return values
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    step = np.where(high > low, high - low, 1.0)
    below = low - step * (1 + violations[:, None])
    return np.where(infeasible[:, None] & ~np.isnan(values), below, values)


def front(values: Values, violations: Values) -> NDArray[np.bool_]:
    """Which trials are feasible and dominated by no feasible trial; equal ones all are."""
    inside = np.flatnonzero(_known(values) & (violations <= 0))
    mask = np.zeros(len(values), dtype=bool)
    if len(inside):
        mask[inside] = moocore.is_nondominated(values[inside], maximise=True, keep_weakly=True)
    return mask


def domination_rank(values: Values, violations: Values) -> NDArray[np.float64]:
    """0 for the front, 1 for the front without those, ...; NaN where a value is missing.

    Infeasible trials come after all feasible ones, by their violation.
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
    """A reference point for the hypervolume, a tenth of the range below the worst of each.

    Shape [objectives]; rows with NaN do not count, at least one must be without.
    """
    known = values[_known(values)]
    low, high = known.min(axis=0), known.max(axis=0)
    return np.asarray(low - 0.1 * np.where(high > low, high - low, 1.0), np.float64)


def hypervolume(values: Values, reference: Values) -> float:
    """The volume that the rows dominate above `reference`."""
    known = values[_known(values)]
    return float(moocore.hypervolume(known, ref=reference, maximise=True)) if len(known) else 0.0


def hypervolume_curve(values: Values, violations: Values, reference: Values) -> Values:
    """The hypervolume of the feasible among the first 1, 2, ... trials, shape [trials]."""
    curve = np.zeros(len(values))
    best = values[:0]
    reached = 0.0
    for i, row in enumerate(values):
        dominated = (best >= row).all(axis=1).any()
        if violations[i] <= 0 and not np.isnan(row).any() and not dominated:
            best = np.concatenate([best[~(row >= best).all(axis=1)], row[None]])
            reached = hypervolume(best, reference)
        curve[i] = reached
    return curve


def contributions(values: Values, reference: Values) -> Values:
    """How much of the hypervolume each row alone holds, shape [rows]."""
    return np.asarray(moocore.hv_contributions(values, ref=reference, maximise=True), np.float64)


def spread_out(values: Values, most: int) -> Sequence[int]:
    """Rows of a front that stand for it: those with the largest contributions, largest first."""
    if not len(values):
        return []
    held = contributions(values, reference_of(values))
    return [int(i) for i in np.argsort(-held, kind="stable")[:most]]
