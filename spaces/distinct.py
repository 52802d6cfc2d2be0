"""Distinct architectures: several codes may stand for the same one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.ncode import Codes, to_codes, to_ncodes
from lm_searcher.spaces.space import SearchSpace


def keys(codes: Codes) -> NDArray[np.bytes_]:
    """One sortable key for each row, shape [n]."""
    shifted = np.ascontiguousarray(codes + np.uint8(1))  # numpy drops trailing zero bytes
    return shifted.view(f"S{codes.shape[1]}").ravel()


def canonical_keys(space: SearchSpace, codes: Codes) -> NDArray[np.bytes_]:
    """One key for each row, shape [n], equal for codes of the same architecture."""
    if space.canonical_form is None or not len(codes):
        return keys(codes)
    canonical = map(space.canonical_form, to_ncodes(codes))
    return keys(to_codes(canonical, codes.shape[1]))


def first_rows(values: NDArray[np.bytes_]) -> NDArray[np.intp]:
    """The index of the first row of each different key, ascending."""
    return np.sort(np.unique(values, return_index=True)[1])
