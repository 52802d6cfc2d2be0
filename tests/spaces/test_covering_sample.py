"""The sample of codes that stands for a thousand random ones by day."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from lm_searcher.spaces.builtin import builtin
from lm_searcher.spaces.ncode import DIGITS
from lm_searcher.spaces.space import SearchSpace

ODD = SearchSpace.of("odd", {"a": [1], "b": [1, 2], "c": list(range(36)), "d": list("xyz")})


@pytest.mark.parametrize("space", [builtin("nb201"), builtin("darts"), ODD], ids=lambda s: s.name)
def test_every_two_options_of_different_positions_meet(
    space: SearchSpace, covering_sample: Callable[..., list[str]]
) -> None:
    ncodes = covering_sample(space, least=150)
    assert len(ncodes) >= 150 and ncodes == covering_sample(space, least=150)
    options = [DIGITS[: len(p.choices)] for p in space.positions]
    for a, b in itertools.combinations(range(len(options)), 2):
        met = {(ncode[a], ncode[b]) for ncode in ncodes}
        assert met == set(itertools.product(options[a], options[b]))
