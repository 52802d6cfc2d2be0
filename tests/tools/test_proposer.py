from __future__ import annotations

import numpy as np
import pytest

from lm_searcher.spaces.distinct import keys
from lm_searcher.spaces.history import History
from lm_searcher.spaces.nb201.space import nb201
from lm_searcher.spaces.ncode import Codes, NCode, to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.tools import proposer as module
from lm_searcher.tools.proposer import MAX_ENUMERATED, Proposer

SMALL = SearchSpace.of("small", {"a": list("abcd"), "b": list("abc"), "c": list("ab")})  # 24
LARGE = SearchSpace.of("large", {f"p{i}": list("abcdefgh") for i in range(60)})


def mirror(ncode: NCode) -> NCode:
    return min(ncode, ncode[::-1])


MIRRORED = SearchSpace.of("mirrored", {"a": list("abc"), "b": list("abc")}, canonical_form=mirror)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def history(codes: Codes, seed: int = 0) -> History:
    none = np.zeros(len(codes), bool)
    return History(codes, rng(seed).normal(size=len(codes)), none, none.copy())


def pool(proposer: Proposer, known: History, subspace: Subspace, seed: int = 0) -> list[NCode]:
    codes = proposer.pool(known, subspace, rng(seed))
    assert codes.dtype == np.uint8 and codes.ndim == 2
    ncodes = to_ncodes(codes)
    assert len(set(ncodes)) == len(ncodes), "nothing twice"
    assert all(map(proposer.space.is_valid, ncodes))
    return ncodes


def test_a_small_space_is_the_pool_whole() -> None:
    found = pool(Proposer(SMALL), History.empty(3), Subspace.full(SMALL))
    assert found == to_ncodes(SMALL.enumerate())


def test_nothing_tried_pending_or_failed_comes_back_until_there_is_nothing() -> None:
    proposer, full = Proposer(SMALL), Subspace.full(SMALL)
    known = History.empty(3)
    for left in range(24, 0, -1):
        found = proposer.pool(known, full, rng(left))
        assert len(found) == left
        known = known.with_pending(found[rng(left).integers(0, left, 1)])
    assert len(set(to_ncodes(known.codes))) == 24
    nothing = proposer.pool(known, full, rng())
    assert nothing.shape == (0, 3)


def test_identical_architectures_count_once() -> None:
    proposer, full = Proposer(MIRRORED), Subspace.full(MIRRORED)
    found = pool(proposer, history(MIRRORED.codes(["01", "22"])), full)
    assert set(found) == {"00", "11", "02", "20", "12", "21"}, "10 is 01, which was tried"
    classes = MIRRORED.codes(["00", "01", "20", "11", "12", "22"])
    assert not pool(proposer, history(classes), full)


def test_distinct_keeps_the_first_of_each_class() -> None:
    codes = MIRRORED.codes(["10", "22", "01", "10", "20", "02"])
    assert to_ncodes(Proposer(MIRRORED).distinct(codes)) == ["10", "22", "20"]
    assert Proposer(MIRRORED).distinct(codes[:0]).shape == (0, 2)


def test_the_real_cells_are_exhausted_after_6466() -> None:
    space = nb201()
    proposer = Proposer(space)
    everything = space.enumerate()
    first = proposer.distinct(everything)
    assert len(first) == 6_466
    assert not pool(proposer, history(first), Subspace.full(space))
    left = pool(proposer, history(first[1:]), Subspace.full(space))
    assert {space.canonical(n) for n in left} == {to_ncodes(first)[0]}


def test_a_subspace_is_respected_but_for_the_share_outside() -> None:
    space = SearchSpace.of("mid", {f"p{i}": list("abcd") for i in range(6)})  # 4,096
    inside = Subspace(space, ("01", "01", "0123", "0123", "0123", "0123"))  # 1,024
    found = pool(Proposer(space), History.empty(6), inside)
    within = {n for n in found if n in inside}
    assert len(within) == 1_024, "all that is inside"
    assert len(found) - len(within) == 114, "and a tenth of the pool from outside"
    assert pool(Proposer(space), History.empty(6), inside, seed=1) != found, "another tenth"


def test_a_used_up_subspace_gives_way_to_the_rest() -> None:
    inside = Subspace(SMALL, ("0", "0", "01"))
    found = pool(Proposer(SMALL), history(SMALL.codes(["000", "001"])), inside)
    assert len(found) == 22


def test_a_table_of_some_rows_limits_the_pool() -> None:
    rows = SMALL.codes(["000", "321", "111", "000"])
    proposer = Proposer(SMALL, rows)
    found = proposer.pool(History.empty(3), Subspace.full(SMALL), rng())
    assert set(to_ncodes(found)) == {"000", "321", "111"}
    found = proposer.pool(history(SMALL.codes(["000"])), Subspace.full(SMALL), rng())
    assert set(to_ncodes(found)) == {"321", "111"}
    assert not len(proposer.pool(history(rows), Subspace.full(SMALL), rng()))


def test_codes_beyond_the_last_class_are_no_trouble() -> None:
    """What was tried need not be among the rows: a table may have grown smaller."""
    proposer = Proposer(SMALL, SMALL.codes(["000", "111"]))
    known = history(SMALL.codes(["321", "000"]))
    assert to_ncodes(proposer.pool(known, Subspace.full(SMALL), rng())) == ["111"]


@pytest.mark.parametrize("tried", [0, 1, 200])
def test_sixty_positions_give_exactly_a_thousand_candidates(tried: int) -> None:
    known = history(LARGE.sample(tried, rng(1)))
    found = pool(Proposer(LARGE), known, Subspace.full(LARGE))
    assert len(found) == 1_000
    assert not set(found) & set(to_ncodes(known.codes))
    assert pool(Proposer(LARGE, size=37), known, Subspace.full(LARGE))[36:] != []
    assert len(pool(Proposer(LARGE, size=37), known, Subspace.full(LARGE))) == 37


def test_a_drawn_pool_repeats_for_a_seed_and_differs_for_another() -> None:
    known, full = history(LARGE.sample(30, rng(1))), Subspace.full(LARGE)
    first = pool(Proposer(LARGE), known, full, seed=3)
    assert first == pool(Proposer(LARGE), known, full, seed=3)
    assert len(set(first) & set(pool(Proposer(LARGE), known, full, seed=4))) < 50


def test_a_drawn_pool_holds_neighbours_of_the_best_uniform_ones_and_some_outside() -> None:
    known = history(LARGE.sample(50, rng(1)))
    inside = Subspace(LARGE, ("0123",) * 60)
    codes = Proposer(LARGE).pool(known, inside, rng())
    elites = known.codes[known.elites(20)]
    distances = (codes[:, None, :] != elites[None]).sum(axis=2).min(axis=1)
    assert 250 < np.count_nonzero(distances <= 2) < 550, "mutants"
    within = np.count_nonzero(inside.contains(codes))
    assert 300 < within < 500, "uniform ones"
    beyond = np.count_nonzero((codes >= 4).mean(axis=1) > 0.3)
    assert beyond > 30, "from outside: the elites themselves are half outside"


def test_mutants_of_elites_inside_stay_inside() -> None:
    inside = Subspace(LARGE, ("0123",) * 60)
    known = history(inside.sample(50, rng(1)))
    codes = Proposer(LARGE).pool(known, inside, rng())
    share = 1 - inside.contains(codes).mean()
    assert 0.05 < share < 0.12, "a tenth from outside, some of it mutants with an edit inside"


def test_a_drawn_space_is_exhausted_to_the_last_architecture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if no more than 30 architectures could be listed."""
    monkeypatch.setattr(module, "MAX_ENUMERATED", 30)
    space = SearchSpace.of("drawn", {f"p{i}": list("abc") for i in range(5)})  # 243
    proposer, inside = Proposer(space, size=20), Subspace(space, ("012", "01", "0", "0", "0"))
    assert proposer.enumerated is None
    known, step = History.empty(5), 0
    while len(found := proposer.pool(known, inside, rng(step))):
        assert len(found) <= 20
        assert not set(to_ncodes(found)) & set(to_ncodes(known.codes))
        known, step = known + history(found[:7], step), step + 1
    assert len(set(to_ncodes(known.codes))) == len(known) == 243


def test_the_limit_of_a_whole_space() -> None:
    assert MAX_ENUMERATED == 20_000
    below = SearchSpace.of("s", {"a": list(range(20)), "b": list(range(25)), "c": list("abcd")})
    assert below.size == 2_000 and Proposer(below).enumerated is not None
    wide = SearchSpace.of("s", {"a": list(range(36)), "b": list(range(36)), "c": list(range(16))})
    assert wide.size == 20_736 and Proposer(wide).enumerated is None


def test_a_key_tells_every_row_apart_zeros_at_the_end_too() -> None:
    codes = np.array([[0, 0], [1, 0], [0, 1], [35, 35], [1, 0]], np.uint8)
    assert len(np.unique(keys(codes))) == 4
    assert keys(codes[:0]).shape == (0,)
