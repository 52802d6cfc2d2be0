from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lm_searcher.spaces.ncode import DIGITS, MAX_OPTIONS, to_codes, to_ncodes

lists = st.integers(1, 80).flatmap(
    lambda n: st.lists(st.text(DIGITS, min_size=n, max_size=n), min_size=1, max_size=20)
)


@given(lists)
def test_ncodes_survive_the_array_and_back(ncodes: list[str]) -> None:
    codes = to_codes(ncodes, len(ncodes[0]))
    assert codes.shape == (len(ncodes), len(ncodes[0])) and codes.dtype == np.uint8
    assert to_ncodes(codes) == ncodes


@given(st.data(), st.integers(0, 20), st.integers(1, 80))
def test_arrays_survive_the_text_and_back(data: st.DataObject, rows: int, positions: int) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1))
    codes = np.random.default_rng(seed).integers(0, MAX_OPTIONS, (rows, positions), np.uint8)
    assert np.array_equal(to_codes(to_ncodes(codes), positions), codes)


def test_a_digit_is_the_index_of_its_option() -> None:
    assert to_codes(["09az"], 4).tolist() == [[0, 9, 10, 35]]
    assert to_ncodes(np.array([[0, 9, 10, 35]], np.uint8)) == ["09az"]


def test_no_codes_keep_their_width() -> None:
    assert to_codes([], 6).shape == (0, 6)
    assert to_ncodes(np.zeros((0, 6), np.uint8)) == []


def test_codes_may_come_from_a_generator_and_be_a_slice() -> None:
    codes = to_codes((n for n in ("012", "210", "111")), 3)
    assert to_ncodes(codes[::-2]) == ["111", "012"]
    assert to_ncodes(codes[:, ::-1]) == ["210", "012", "111"]
