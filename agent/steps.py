"""Picking and remembering: what the graph's nodes and ask/tell have in common."""

from __future__ import annotations

from typing import Any

from lm_searcher.agent.memory import Findings
from lm_searcher.agent.state import Context
from lm_searcher.spaces.ncode import Codes, NCode, to_ncodes
from lm_searcher.spaces.trial import History
from lm_searcher.tools.protocols import AskingRanker


def pick(
    context: Context, pool: Codes, history: History, n: int
) -> tuple[list[NCode], dict[str, Any]]:
    """The `n` best of the pool, no two of them the same architecture; the first are random.

    With them, what it took to ask a model (an Account as plain data; empty where none was).
    """
    rng = context.rng("rank", len(history))
    account: dict[str, Any] = {}
    if len(history) < context.initial:
        order = rng.permutation(len(pool))
    else:
        order = context.ranker.rank(pool, history, seed=int(rng.integers(2**31)))
        account = _told(context)
    looked = 4 * n  # identical architectures are few, and fall out here
    picks = context.proposer.distinct(pool[order[:looked]])
    while len(picks) < n and looked < len(pool):
        looked *= 4
        picks = context.proposer.distinct(pool[order[:looked]])
    return to_ncodes(picks[:n]), account


def _told(context: Context) -> dict[str, Any]:
    """The ranker's account of its latest call, once what it has to say has been said."""
    ranker = context.ranker
    if not isinstance(ranker, AskingRanker):
        return {}
    while ranker.notes:
        context.observe(ranker.notes.pop(0))
    return ranker.account.to_json()


def weigh(context: Context, history: History, findings: Findings) -> Findings:
    """Memory's findings after `history`, with what it decided put in the store."""
    revised, decisions = context.memory.revise(history, findings)
    for i, decision in enumerate(decisions):
        context.store.set_attribute(f"memory:{decision['trial']:06d}:{i:03d}", decision)
    if revised.weighed != findings.weighed:
        context.store.set_attribute("weighed", revised.weighed)
    return revised
