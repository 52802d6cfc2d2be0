"""Values of equal fidelity: what a trial that was stopped early would have come to.

A trial that the pruner stopped at its k-th report has the value that it had there, which is not to
be compared with those of whole trainings. It is put where it stood: its report is looked up among
the k-th reports of the trials that went further, and what is found at the same place among their
final scores is its own. Those stopped later come first, and then count among the trials that went
further.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Curves:
    """The learning curves of a run, as arrays with room to grow both ways."""

    def __init__(self) -> None:
        self._reports = np.full((64, 8), np.nan)
        self._stopped = np.zeros(64, bool)

    def note(self, number: int, curve: Floats, stopped: bool) -> None:
        """The reports of a trial, higher is better, and whether it was stopped after them."""
        rows, columns = self._reports.shape
        if number >= rows or len(curve) > columns:
            grown = np.full((_room(rows, number + 1), _room(columns, len(curve))), np.nan)
            grown[:rows, :columns] = self._reports
            self._reports = grown
            self._stopped = np.concatenate([self._stopped, np.zeros(len(grown) - rows, bool)])
        self._reports[number] = np.nan
        self._reports[number, : len(curve)] = curve
        self._stopped[number] = stopped

    def final(self, scores: Floats) -> Floats:
        """The scores of the first trials, shape [n], those of stopped ones as final ones."""
        n = min(len(scores), len(self._stopped))
        if not self._stopped[:n].any():
            return scores.copy()
        return np.concatenate(
            [final_scores(scores[:n], self._reports[:n], self._stopped[:n]), scores[n:]]
        )


def _room(now: int, wanted: int) -> int:
    while now < wanted:
        now *= 2
    return now


def final_scores(scores: Floats, reports: Floats, stopped: NDArray[np.bool_]) -> Floats:
    """`scores` [trials], higher is better, with an estimate in place of those that were `stopped`.

    `reports` [trials, reports] holds the learning curves, NaN after the last report; a score that
    is NaN is of no trial to learn from. The order of trials stopped at the same report stays, and
    none reaches the best that went on to the end. A score stays as it is while there is no trial
    that went further.
    """
    final = scores.copy()
    known = ~stopped & ~np.isnan(scores)
    if not known.any():
        return final
    best = np.nextafter(scores[known].max(), -np.inf)
    lengths = (~np.isnan(reports)).sum(axis=1)
    for length in np.unique(lengths[stopped])[::-1]:
        rows = stopped & (lengths == length) & ~np.isnan(scores)
        further = known & (lengths > length)
        if length and further.any():
            seen = reports[:, length - 1]
            final[rows] = np.minimum(_matched(seen[rows], seen[further], final[further]), best)
            known = known | rows
    return final


def _matched(values: Floats, before: Floats, after: Floats) -> Floats:
    """Each of `values` at its place among `before`, read off among `after`.

    Quantile matching, with straight lines between. Beyond either end it goes on with a shift of
    the end by as much of the distance as the spread of `after` is of that of `before`.
    """
    points, where = np.unique(np.sort(before), return_inverse=True)
    heights = np.bincount(where, np.sort(after)) / np.bincount(where)
    spread = float(np.std(before))
    slope = float(np.std(after)) / spread if len(points) >= ENOUGH and spread > 0 else 1.0
    beyond = values - np.clip(values, points[0], points[-1])
    matched: Floats = np.interp(values, points, heights) + slope * beyond
    return matched


ENOUGH = 5
"""Different values from which a spread is told."""
