"""Histories as prompts show them: the best first, no more than fit."""

from __future__ import annotations

import math
from collections.abc import Sequence

Entry = tuple[str, float | None]
"""An NCode and its score, more being better; None for a trial that failed."""

LIMIT = 200
"""The most entries that the paper's prompt shows."""


def best_first(history: Sequence[Entry], limit: int = LIMIT) -> list[Entry]:
    """The `limit` best entries, best first; equal ones in their order, failed ones last.

    A score that is no finite number counts as a failure.
    """
    known = [(code, s if s is not None and math.isfinite(s) else None) for code, s in history]
    known.sort(key=lambda entry: math.inf if entry[1] is None else -entry[1])
    return known[:limit]
