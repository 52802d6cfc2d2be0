"""What was tried is known from the arguments alone, however the calls went before."""

from __future__ import annotations

import numpy as np
import pytest

from lm_searcher.spaces.distinct import canonical_keys
from lm_searcher.spaces.ncode import Codes, NCode
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.tried import TriedArchitectures


def mirror(ncode: NCode) -> NCode:
    return min(ncode, ncode[::-1])


PLAIN = SearchSpace.of("plain", {f"p{i}": list("abc") for i in range(4)})
MIRRORED = SearchSpace.of(
    "mirrored", {f"p{i}": list("abc") for i in range(4)}, canonical_form=mirror
)


def growing(codes: Codes) -> Codes:
    """A buffer of which an owner lends read-only views."""
    buffer = codes.copy()
    view = buffer[:]
    view.flags.writeable = False
    return view


@pytest.mark.parametrize("space", [PLAIN, MIRRORED], ids=lambda s: s.name)
def test_new_to_any_history(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    every = canonical_keys(space, space.enumerate())
    classes = np.unique(every)
    sampled, enumerated = TriedArchitectures(space), TriedArchitectures(space, classes)
    runs = [growing(space.sample(60, rng)) for _ in range(2)]
    for _ in range(80):
        run = runs[int(rng.random() < 0.1)]
        codes = run[: int(rng.integers(0, 60))]
        if rng.random() < 0.2:  # some are pending beside them
            codes = np.concatenate([codes, space.sample(3, rng)])
        tried = canonical_keys(space, codes)
        assert np.array_equal(sampled.new(every, codes), ~np.isin(every, tried))
        assert np.array_equal(enumerated.untried(codes), ~np.isin(classes, tried))


def test_a_history_that_its_owner_changes_is_read_anew() -> None:
    tried, every = TriedArchitectures(PLAIN), canonical_keys(PLAIN, PLAIN.enumerate())
    codes = PLAIN.sample(10, np.random.default_rng(0))
    tried.new(every, codes)
    codes[3] = (codes[3] + 1) % 3
    assert np.array_equal(tried.new(every, codes), ~np.isin(every, canonical_keys(PLAIN, codes)))
