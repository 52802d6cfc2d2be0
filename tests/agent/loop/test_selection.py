"""What is drawn for whom, and batches picked one at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lm_searcher.agent.context import Context
from lm_searcher.agent.loop.memory import Findings
from lm_searcher.agent.search import Search
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes, NCode, to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.tools.protocols import Ranker, Ranking
from lm_searcher.tools.rankers.random import RandomRanker

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


class Spreading(Sum):
    """The same, and picks several, each with those before it pending."""

    def rank_batch(self, pool: Codes, history: History, picks: int, *, seed: int) -> Ranking:
        order = np.arange(len(pool))
        for i in range(min(picks, len(pool))):
            left = order[i:]
            known = history.with_pending(pool[order[:i]])
            order[i:] = left[self.rank(pool[left], known, seed=seed)]
        return order


def context(space: SearchSpace, ranker: Ranker) -> Context:
    search = Search(space, lambda config: 0.0, store="memory", initial=2)
    opened = search._open()
    opened.ranker = ranker
    return opened


def known(space: SearchSpace, n: int = 20) -> History:
    codes = space.sample(n, np.random.default_rng(0))
    none = np.zeros(n, bool)
    return History(codes, codes.sum(1).astype(float), none, none)


def test_the_random_ranker_draws_uniformly_whatever_is_known() -> None:
    history, full = known(LARGE), Subspace.full(LARGE)
    best = history.codes[history.elites(20)]

    def nearest(ranker: Ranker) -> int:
        pool = context(LARGE, ranker).propose(history, Findings(full, [])).pool
        return int((pool[:, None] != best[None]).sum(2).min())

    assert nearest(RandomRanker()) > 10
    assert nearest(Sum()) == 1


@pytest.mark.parametrize("n", [1, 2, 5, 24, 40])
def test_a_batch_is_picked_by_one_ranking(n: int) -> None:
    ranker = Spreading()
    opened, history = context(SMALL, ranker), known(SMALL, 3)
    pool = opened.proposer.pool(history, Subspace.full(SMALL), np.random.default_rng(0))
    selection = opened.select(pool, history, [], n)
    assert len(selection.picks) == len(set(selection.picks)) == min(n, len(pool))
    assert selection.picks == to_ncodes(selection.order[:n]), "the order begins with the picks"
    assert [pending for _, pending in ranker.asked] == list(range(len(selection.picks)))


def test_codes_of_one_architecture_are_picked_once() -> None:
    mirrored = replace(SMALL, canonical_form=lambda ncode: min(ncode, ncode[::-1]))
    pool = mirrored.enumerate()
    picks = context(mirrored, Spreading()).select(pool, known(mirrored, 3), [], 12).picks
    assert len(picks) == len({mirrored.canonical(pick) for pick in picks}) == 12


def apart(a: NCode, b: NCode) -> int:
    return sum(x != y for x, y in zip(a, b, strict=True))


def test_what_is_pending_keeps_picks_apart() -> None:
    history = known(LARGE)
    pool = LARGE.sample(1000, np.random.default_rng(1))
    near = np.repeat(pool[pool.sum(1).argmax()][None], 5, axis=0)
    near[np.arange(5), np.arange(5)] ^= 1
    pool = np.concatenate([pool, near])
    first, second = context(LARGE, Spreading()).select(pool, history, [], 2).picks
    assert apart(first, second) > 2
    first, second = context(LARGE, Sum()).select(pool, history, [], 2).picks
    assert apart(first, second) <= 2


def test_asked_batches_know_each_other(tmp_path: Path) -> None:
    with Search(SMALL, metric="value", ranker="local", name="a", folder=tmp_path) as search:
        asked = search.ask(7) + search.ask(20)
    assert len({trial.ncode for trial in asked}) == 27
