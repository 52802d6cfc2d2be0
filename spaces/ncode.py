"""NCode: one digit per decision (LM-Searcher, arXiv 2509.05657, section 3.1).

An NCode has two forms. Users, prompts and stores have a `str` such as ``"333103"``. Rankers and
the proposer compute with rows of a `Codes` array, thousands at once.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

NCode = str
"""One digit 0-9a-z for each position: the index of the chosen option, of at most 36."""

Codes = NDArray[np.uint8]
"""Architectures as option indices, shape [architectures, positions]."""

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
MAX_OPTIONS = len(DIGITS)

_TO_ASCII = np.frombuffer(DIGITS.encode(), dtype=np.uint8)
_FROM_ASCII = np.full(256, 255, dtype=np.uint8)
_FROM_ASCII[_TO_ASCII] = np.arange(MAX_OPTIONS, dtype=np.uint8)


def to_codes(ncodes: Iterable[NCode], positions: int) -> Codes:
    """The rows of valid NCodes of `positions` digits each."""
    text = "".join(ncodes).encode()
    return _FROM_ASCII[np.frombuffer(text, dtype=np.uint8)].reshape(-1, positions)


def to_ncodes(codes: Codes) -> list[NCode]:
    """The NCode of each row."""
    rows, positions = codes.shape
    text = _TO_ASCII[codes].tobytes().decode()
    return [text[i * positions : (i + 1) * positions] for i in range(rows)]
