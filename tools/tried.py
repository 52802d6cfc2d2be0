"""The architectures that a run has tried, kept while its history grows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.distinct import canonical_keys
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import SearchSpace

Keys = NDArray[np.bytes_]
"""Keys of `canonical_keys`, one for each architecture."""


class TriedArchitectures:
    """Which architectures are new to a history: a cache between calls with growing histories.

    The result depends on the arguments only. A history that does not begin with the last one is
    read anew.
    """

    def __init__(self, space: SearchSpace, classes: Keys | None = None) -> None:
        """`classes` are the sorted keys of an enumerated space."""
        self.space = space
        self.classes = classes
        self._read: Codes | None = None
        self._forget()

    def _forget(self) -> None:
        self._tried: set[bytes] = set()
        self._untried = np.ones(0 if self.classes is None else len(self.classes), bool)

    def new(self, keys: Keys, codes: Codes) -> NDArray[np.bool_]:
        """Which `keys` are of no architecture among the trials' `codes`; shape [keys]."""
        self._advance(codes)
        return np.array([key not in self._tried for key in keys.tolist()], bool)

    def untried(self, codes: Codes) -> NDArray[np.bool_]:
        """Which classes are of no architecture among the trials' `codes`; shape [classes]."""
        self._advance(codes)
        return self._untried

    def _advance(self, codes: Codes) -> None:
        """Read the trials that the last history did not have."""
        known = 0 if self._read is None else len(self._read)
        if self._read is not None and not _begins_with(codes, self._read):
            self._forget()
            known = 0
        if len(codes) > known or self._read is None:
            self._add(canonical_keys(self.space, codes[known:]))
        self._read = codes.copy() if codes.flags.writeable else codes

    def _add(self, keys: Keys) -> None:
        if self.classes is None:
            self._tried.update(keys.tolist())
        elif len(keys):
            rows = np.searchsorted(self.classes, keys).clip(max=len(self.classes) - 1)
            self._untried[rows[self.classes[rows] == keys]] = False


def _begins_with(codes: Codes, first: Codes) -> bool:
    """Whether the first rows of `codes` are `first`; at once for two views of one array whose
    owner only appends, see agent/study/history_arrays.py."""
    if len(codes) < len(first):
        return False
    views = codes.base is not None and codes.base is first.base and not codes.flags.writeable
    if views and codes.ctypes.data == first.ctypes.data and codes.strides == first.strides:
        return True
    return np.array_equal(codes[: len(first)], first)
