"""Pools that are bred under the ranker, and batches picked one at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lm_searcher.agent.search import Search
from lm_searcher.agent.state import Context
from lm_searcher.agent.steps import draw, pick
from lm_searcher.spaces.ncode import Codes, NCode, to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.spaces.trial import History
from lm_searcher.tools.protocols import Ranking

LARGE = SearchSpace.of("large", {f"p{i}": list(range(8)) for i in range(30)})
SMALL = SearchSpace.of("small", {f"p{i}": [0, 1, 2] for i in range(3)})


class Sum:
    """Prefers the largest sum of options that is not next to a pending trial."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def rank(self, pool: Codes, history: History, *, seed: int) -> Ranking:
        """By the sum, less a penalty within two edits of what is pending."""
        self.asked.append((len(pool), int(history.pending.sum())))
        waiting = history.codes[history.pending]
        edits = (pool[:, None] != waiting[None]).sum(2)
        return np.argsort(-(pool.sum(1) - 100.0 * (edits <= 2).any(1)), kind="stable")


class Cheap(Sum):
    """The same, asked again and again."""

    generations = 4


def context(space: SearchSpace, ranker: Sum) -> Context:
    search = Search(space, lambda config: 0.0, store="memory", initial=2)
    opened = search._open()
    opened.ranker = ranker
    return opened


def known(space: SearchSpace, n: int = 20) -> History:
    codes = space.sample(n, np.random.default_rng(0))
    none = np.zeros(n, bool)
    return History(codes, codes.sum(1).astype(float), none, none)


def test_breeding_under_the_ranker_finds_better_candidates() -> None:
    history, full = known(LARGE), Subspace.full(LARGE)
    plain, bred = context(LARGE, Sum()), context(LARGE, Cheap())
    once = draw(plain, history, full, 20)
    often = draw(bred, history, full, 20)
    assert isinstance(bred.ranker, Cheap) and len(bred.ranker.asked) == 4
    assert isinstance(plain.ranker, Sum) and not plain.ranker.asked
    assert len(often) <= bred.proposer.size and len(set(to_ncodes(often))) == len(often)
    assert often.sum(1).max() > once.sum(1).max() + 10
    assert not set(to_ncodes(often)) & set(to_ncodes(history.codes))
    assert np.array_equal(often, draw(bred, history, full, 20)), "a resumed run draws the same"


def test_bred_pools_stay_in_the_subspace_but_for_a_tenth() -> None:
    narrow = Subspace(LARGE, ("01",) + ("01234567",) * 29)
    pool = draw(context(LARGE, Cheap()), known(LARGE), narrow, 20)
    assert (pool[:, 0] <= 1).mean() > 0.75


def test_random_trials_and_whole_spaces_are_not_bred() -> None:
    ranker = Cheap()
    draw(context(LARGE, ranker), known(LARGE, 1), Subspace.full(LARGE), 1)
    draw(context(SMALL, ranker), known(SMALL, 3), Subspace.full(SMALL), 3)
    assert not ranker.asked


@pytest.mark.parametrize("n", [1, 2, 5, 24, 40])
def test_a_batch_is_picked_one_at_a_time_knowing_those_before(n: int) -> None:
    ranker = Cheap()
    opened, history = context(SMALL, ranker), known(SMALL, 3)
    pool = opened.proposer.pool(history, Subspace.full(SMALL), np.random.default_rng(0))
    picks = pick(opened, pool, history, n)
    assert len(picks) == len(set(picks)) == min(n, len(pool))
    assert [pending for _, pending in ranker.asked] == list(range(len(picks)))


def apart(a: NCode, b: NCode) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


def test_what_is_pending_keeps_picks_apart() -> None:
    history = known(LARGE)
    pool = LARGE.sample(1000, np.random.default_rng(1))
    near = np.repeat(pool[pool.sum(1).argmax()][None], 5, axis=0)
    near[np.arange(5), np.arange(5)] ^= 1
    pool = np.concatenate([pool, near])
    first, second = pick(context(LARGE, Cheap()), pool, history, 2)
    assert apart(first, second) > 2
    first, second = pick(context(LARGE, Sum()), pool, history, 2)
    assert apart(first, second) <= 2


def test_asked_batches_know_each_other(tmp_path: Path) -> None:
    with Search(SMALL, metric="value", ranker="local", name="a", folder=tmp_path) as search:
        asked = search.ask(7) + search.ask(20)
    assert len({trial.ncode for trial in asked}) == 27
