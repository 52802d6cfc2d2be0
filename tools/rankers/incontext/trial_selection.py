"""The trials of a long history that a ranker reads, and their scores in float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.history import History


def select_trials(history: History, most: int) -> NDArray[np.intp]:
    """The rows of the finished trials that a ranker with room for `most` reads, in order.

    All of them if they fit. Otherwise the best scored ones (half of the room), and a sample of the
    others, even over time.
    """
    finished = np.flatnonzero(~history.pending)
    if len(finished) <= most:
        return finished
    elite = history.elites(most // 2)
    rest = np.setdiff1d(finished, elite)
    room = min(most - len(elite), len(rest))
    even = rest[np.linspace(0, len(rest) - 1, room).round().astype(np.intp)]
    return np.sort(np.concatenate([elite, even]))


def scaled_scores(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores that float32 can hold: minus their median, divided by their range.

    Infinite scores become the finite extremes, missing ones 0.
    """
    finite = scores[np.isfinite(scores)]
    if len(finite) == 0:
        return np.nan_to_num(np.sign(scores))
    clipped = np.clip(scores, finite.min(), finite.max())
    scale = float(np.ptp(finite)) or 1.0
    return np.nan_to_num((clipped - np.median(finite)) / scale)
