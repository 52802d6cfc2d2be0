from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_searcher.spaces.errors import SpaceError
from lm_searcher.spaces.ncode import DIGITS, to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace

SPACE = SearchSpace.of("s", {"a": [1, 2, 3, 4, 5], "b": ["x", "y", "z"], "c": [True, False]})
FULL = Subspace.full(SPACE)


@st.composite
def subspaces(draw: st.DrawFn) -> Subspace:
    cardinalities = draw(st.lists(st.integers(1, 36), min_size=1, max_size=10))
    space = SearchSpace.of("s", {f"p{i}": list(range(n)) for i, n in enumerate(cardinalities)})
    kept = [draw(st.sets(st.sampled_from(DIGITS[:n]), min_size=1)) for n in cardinalities]
    return Subspace(space, tuple("".join(sorted(k, key=DIGITS.index)) for k in kept))


def inside(draw: st.DataObject, subspace: Subspace) -> str:
    return "".join(draw.draw(st.sampled_from(kept)) for kept in subspace.allowed)


@given(st.data(), subspaces())
def test_from_text_undoes_to_text(data: st.DataObject, subspace: Subspace) -> None:
    ncode = inside(data, subspace)
    text = subspace.to_text(ncode)
    assert len(text) == sum(len(kept) > 1 for kept in subspace.allowed)
    assert subspace.from_text(text) == ncode


@given(st.data(), subspaces())
def test_to_text_undoes_from_text(data: st.DataObject, subspace: Subspace) -> None:
    opened = [kept for kept in subspace.allowed if len(kept) > 1]
    text = "".join(data.draw(st.sampled_from(DIGITS[: len(kept)])) for kept in opened)
    ncode = subspace.from_text(text)
    assert ncode in subspace and subspace.space.is_valid(ncode)
    assert subspace.to_text(ncode) == text


@given(st.data(), subspaces())
def test_samples_lie_inside(data: st.DataObject, subspace: Subspace) -> None:
    codes = subspace.sample(20, np.random.default_rng(data.draw(st.integers(0, 99))))
    assert codes.shape == (20, len(subspace.allowed)) and codes.dtype == np.uint8
    assert subspace.contains(codes).all()
    assert all(ncode in subspace for ncode in to_ncodes(codes))


@given(st.data(), subspaces())
def test_contains_agrees_with_in(data: st.DataObject, subspace: Subspace) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    codes = subspace.space.sample(30, rng)
    expected = [ncode in subspace for ncode in to_ncodes(codes)]
    assert subspace.contains(codes).tolist() == expected


@given(st.data(), subspaces())
def test_widen_undoes_restrict(data: st.DataObject, subspace: Subspace) -> None:
    opened = [i for i, kept in enumerate(subspace.allowed) if len(kept) > 1]
    if not opened:
        return
    place = data.draw(st.sampled_from(opened))
    option = DIGITS.index(data.draw(st.sampled_from(subspace.allowed[place])))
    less = subspace.restrict(place, option)
    assert less.size == subspace.size // len(subspace.allowed[place]) * len(less.allowed[place])
    assert set(less.pruned()) - set(subspace.pruned()) == {(place, option)}
    assert less.widen(place, option) == subspace


def test_restrict_takes_one_option_and_leaves_the_original() -> None:
    less = FULL.restrict(0, 1).restrict(0, 3)
    assert less.allowed == ("024", "012", "01")
    assert FULL.allowed == ("01234", "012", "01")
    assert less.size == 18 and FULL.size == 30
    assert list(less.pruned()) == [(0, 1), (0, 3)]
    assert "200" in less and "100" not in less and "20" not in less and 200 not in less


def test_the_re_indexed_form_is_the_papers() -> None:
    less = FULL.restrict(0, 0).restrict(0, 2).restrict(1, 0).restrict(1, 2)
    assert less.allowed == ("134", "1", "01")
    assert less.to_text("310") == "10"  # '3' is second of 134; b is decided and says nothing
    assert less.from_text("21") == "411"


def test_a_single_architecture_has_the_empty_text() -> None:
    one = Subspace(SPACE, ("2", "0", "1"))
    assert one.size == 1
    assert one.to_text("201") == "" and one.from_text("") == "201"


@pytest.mark.parametrize("text", ["", "00", "0000", "500", "0z0", "03A", "0-0"])
def test_wrong_text_is_refused(text: str) -> None:
    with pytest.raises(SpaceError):
        FULL.from_text(text)


def test_a_code_outside_has_no_text() -> None:
    with pytest.raises(SpaceError, match="NCode '000' is outside"):
        FULL.restrict(0, 0).to_text("000")


def test_the_last_option_and_one_that_is_gone_cannot_be_pruned() -> None:
    less = FULL.restrict(2, 0)
    for option in (0, 1):
        with pytest.raises(SpaceError, match=f"cannot prune option {option} of 'c'"):
            less.restrict(2, option)


def test_only_options_that_there_are_can_come_back() -> None:
    with pytest.raises(SpaceError, match="'c' has no option 2"):
        FULL.widen(2, 2)
    assert FULL.widen(2, 1) == FULL


@pytest.mark.parametrize(
    "allowed",
    [
        ("01234", "012"),
        ("01234", "", "01"),
        ("10", "012", "01"),
        ("00", "012", "01"),
        ("0", "0", "2"),
    ],
)
def test_a_mask_that_makes_no_sense_is_refused(allowed: tuple[str, ...]) -> None:
    with pytest.raises(SpaceError):
        Subspace(SPACE, allowed)


def test_size_is_exact_however_large() -> None:
    large = SearchSpace.of("large", {f"p{i}": list(range(10)) for i in range(60)})
    full = Subspace.full(large)
    assert full.size == 10**60
    assert full.restrict(0, 3).size == 9 * 10**59


def test_the_mask_has_a_column_an_option() -> None:
    mask = FULL.restrict(1, 1).mask
    assert mask.astype(int).tolist() == [[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [1, 1, 0, 0, 0]]


def test_samples_reach_everything_inside_and_repeat_for_a_seed() -> None:
    less = FULL.restrict(0, 0)
    codes = less.sample(400, np.random.default_rng(0))
    assert len(set(to_ncodes(codes))) == less.size
    assert np.array_equal(codes, less.sample(400, np.random.default_rng(0)))
