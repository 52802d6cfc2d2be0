"""Picking and remembering: what the graph's nodes and ask/tell have in common."""

from __future__ import annotations

from lm_searcher.agent.memory import Findings
from lm_searcher.agent.state import Context
from lm_searcher.spaces.ncode import Codes, NCode, to_ncodes
from lm_searcher.spaces.trial import History


def pick(context: Context, pool: Codes, history: History, n: int) -> list[NCode]:
    """The `n` best of the pool, no two of them the same architecture; the first are random."""
    rng = context.rng("rank", len(history))
    if len(history) < context.initial:
        order = rng.permutation(len(pool))
    else:
        order = context.ranker.rank(pool, history, seed=int(rng.integers(2**31)))
    looked = 4 * n  # identical architectures are few, and fall out here
    picks = context.proposer.distinct(pool[order[:looked]])
    while len(picks) < n and looked < len(pool):
        looked *= 4
        picks = context.proposer.distinct(pool[order[:looked]])
    return to_ncodes(picks[:n])


def weigh(context: Context, history: History, findings: Findings) -> Findings:
    """Memory's findings after `history`, with what it decided put in the store."""
    revised, decisions = context.memory.revise(history, findings)
    for i, decision in enumerate(decisions):
        context.store.set_attribute(f"memory:{decision['trial']:06d}:{i:03d}", decision)
    if revised.weighed != findings.weighed:
        context.store.set_attribute("weighed", revised.weighed)
    return revised
