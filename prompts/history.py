"""Histories in prompts: the best trials, best first."""

from __future__ import annotations

import math
from collections.abc import Sequence

Entry = tuple[str, float | None]
"""An NCode and its score; higher is better, None is a failed trial."""

LIMIT = 200
"""The most entries in the paper's prompt."""


def best_first(history: Sequence[Entry], limit: int = LIMIT) -> list[Entry]:
    """The `limit` best entries, best first; equal ones in their order, failed ones last.

    An entry whose score is not finite counts as failed.
    """
    known = [(code, s if s is not None and math.isfinite(s) else None) for code, s in history]
    known.sort(key=lambda entry: math.inf if entry[1] is None else -entry[1])
    return known[:limit]
