"""Drawing, picking and remembering: what the graph's nodes and ask/tell have in common."""

from __future__ import annotations

import numpy as np

from lm_searcher.agent.memory import Findings
from lm_searcher.agent.state import Context
from lm_searcher.spaces.ncode import Codes, NCode, to_ncodes
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.spaces.trial import History
from lm_searcher.tools.protocols import CheapRanker
from lm_searcher.tools.rankers.random import RandomRanker

PARENTS = 50
"""Of each generation of a pool that is bred under its ranker."""
SHORT_LIST = 200
"""Candidates that are ranked again for each further pick of a batch."""


def draw(context: Context, history: History, subspace: Subspace, number: int) -> Codes:
    """The candidate pool of trial `number`, shape [candidates, positions].

    In a space too large to be the pool, a ranker that costs little is asked for parents of the
    next generation of candidates, a few times over.
    """
    rng, ranker = context.rng("propose", number), context.ranker
    uniform = number < context.initial or isinstance(ranker, RandomRanker)
    pool = context.proposer.pool(history, subspace, rng, uniform)
    if uniform or context.proposer.whole is not None or not isinstance(ranker, CheapRanker):
        return pool
    for _ in range(ranker.generations):
        if len(pool) > PARENTS:
            order = ranker.rank(pool, history, seed=int(rng.integers(2**31)))
            pool = context.proposer.bred(pool[order[:PARENTS]], history, subspace, rng)
    return pool


def pick(context: Context, pool: Codes, history: History, n: int) -> list[NCode]:
    """The `n` best of the pool, no two of them the same architecture; the first are random.

    A ranker that costs little picks one at a time, knowing the picks before as pending.
    """
    rng = context.rng("rank", len(history))
    if len(history) < context.initial:
        return to_ncodes(_first(context, pool[rng.permutation(len(pool))], n))
    ranker, seed = context.ranker, int(rng.integers(2**31))
    pool = pool[ranker.rank(pool, history, seed=seed)]
    if n == 1 or not isinstance(ranker, CheapRanker):
        return to_ncodes(_first(context, pool, n))
    left = _first(context, pool, max(n, SHORT_LIST))
    picks = left[:1]
    while len(picks) < n and len(left) > 1:
        left = left[1:]
        order = ranker.rank(left, history.with_pending(picks), seed=seed)
        left = left[order]
        picks = np.concatenate([picks, left[:1]])
    return to_ncodes(picks)


def _first(context: Context, ranked: Codes, n: int) -> Codes:
    """The first `n` of them that are different architectures."""
    looked = 4 * n  # identical architectures are few, and fall out here
    found = context.proposer.distinct(ranked[:looked])
    while len(found) < n and looked < len(ranked):
        looked *= 4
        found = context.proposer.distinct(ranked[:looked])
    return found[:n]


def weigh(context: Context, history: History, findings: Findings) -> Findings:
    """Memory's findings after `history`, with what it decided put in the store."""
    revised, decisions = context.memory.revise(history, findings)
    for i, decision in enumerate(decisions):
        context.store.set_attribute(f"memory:{decision['trial']:06d}:{i:03d}", decision)
    if revised.weighed != findings.weighed:
        context.store.set_attribute("weighed", revised.weighed)
    return revised
