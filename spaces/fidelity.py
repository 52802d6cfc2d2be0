"""Estimates of the final scores of trials that were stopped early.

A trial that the pruner stopped has only the value of its last report, the k-th, which is not
comparable with final values. Its estimate is the quantile of that report among the k-th reports of
the trials that trained longer, read off from the final scores of these trials. Trials that were
stopped later are estimated first, and then count as trials that trained longer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MIN_POINTS = 5
"""Different values that a standard deviation is estimated from, at least."""


class Curves:
    """The learning curves of a run, in an array that grows with trials and reports."""

    def __init__(self) -> None:
        self._reports = np.full((64, 8), np.nan)
        self._stopped = np.zeros(64, bool)

    def note(self, number: int, curve: Floats, stopped: bool) -> None:
        """Store a trial's reports, higher is better, and whether it was stopped early."""
        rows, columns = self._reports.shape
        if number >= rows or len(curve) > columns:
            grown = np.full((_capacity(rows, number + 1), _capacity(columns, len(curve))), np.nan)
            grown[:rows, :columns] = self._reports
            self._reports = grown
            self._stopped = np.concatenate([self._stopped, np.zeros(len(grown) - rows, bool)])
        self._reports[number] = np.nan
        self._reports[number, : len(curve)] = curve
        self._stopped[number] = stopped

    @property
    def any_stopped(self) -> bool:
        """Whether any trial was stopped early."""
        return bool(self._stopped.any())

    def final(self, scores: Floats) -> Floats:
        """`scores` of the first trials, shape [n], with estimates for stopped trials."""
        n = min(len(scores), len(self._stopped))
        if not self._stopped[:n].any():
            return scores.copy()
        return np.concatenate(
            [final_scores(scores[:n], self._reports[:n], self._stopped[:n]), scores[n:]]
        )


def _capacity(present: int, required: int) -> int:
    while present < required:
        present *= 2
    return present


def final_scores(scores: Floats, reports: Floats, stopped: NDArray[np.bool_]) -> Floats:
    """`scores` [trials], higher is better, with estimates for the `stopped` trials.

    `reports` [trials, reports] are the learning curves, NaN after the last report. Trials with a
    score of NaN are ignored. Trials that were stopped at the same report keep their order, and no
    estimate reaches the best final score. A score without any longer trial is not changed.
    """
    final = scores.copy()
    known = ~stopped & ~np.isnan(scores)
    if not known.any():
        return final
    best = np.nextafter(scores[known].max(), -np.inf)
    lengths = (~np.isnan(reports)).sum(axis=1)
    for length in np.unique(lengths[stopped])[::-1]:
        rows = stopped & (lengths == length) & ~np.isnan(scores)
        longer = known & (lengths > length)
        if length and longer.any():
            last = reports[:, length - 1]
            final[rows] = np.minimum(_matched(last[rows], last[longer], final[longer]), best)
            known = known | rows
    return final


def _matched(values: Floats, before: Floats, after: Floats) -> Floats:
    """Quantile matching: the quantiles of `values` in `before`, read off from `after`.

    Linear between the points. Beyond either end, the distance to the end is scaled by the ratio
    of the standard deviations of `after` and `before`.
    """
    points, inverse = np.unique(np.sort(before), return_inverse=True)
    heights = np.bincount(inverse, np.sort(after)) / np.bincount(inverse)
    spread = float(np.std(before))
    slope = float(np.std(after)) / spread if len(points) >= MIN_POINTS and spread > 0 else 1.0
    beyond = values - np.clip(values, points[0], points[-1])
    matched: Floats = np.interp(values, points, heights) + slope * beyond
    return matched
