"""Drawing, picking and remembering: what the graph's nodes and ask/tell have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lm_searcher.agent.loop.memory import Findings
from lm_searcher.agent.state import Context
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes, NCode, to_ncodes
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.tools.protocols import AskingRanker, SequentialRanker
from lm_searcher.tools.rankers.random import RandomRanker

SHORT_LIST = 200
"""Candidates that are ranked again for each further pick of a batch."""


def draw(context: Context, history: History, subspace: Subspace, number: int) -> Codes:
    """The candidate pool of trial `number`, shape [candidates, positions].

    Random trials, and all those of the random ranker, choose from uniform draws.
    """
    uniform = number < context.initial or isinstance(context.ranker, RandomRanker)
    rng = context.rng("propose", number)
    pool = context.proposer.pool(history, subspace, rng, uniform)
    return context.requests.permitted(pool) if context.requests else pool


def take_up(
    context: Context, history: History, findings: Findings
) -> tuple[Findings, list[NCode], History]:
    """What a person asked for, before the next pick: the findings after it, the picks, and the
    history with those pending."""
    if context.requests is None:
        return findings, [], history
    findings, asked = context.requests.take_up(context.store, history, findings, context.batch)
    return findings, asked, history.with_pending(context.space.codes(asked))


def pick(
    context: Context, pool: Codes, history: History, n: int
) -> tuple[list[NCode], dict[str, Any]]:
    """The `n` best of the pool, no two of them the same architecture; the first are random.

    A sequential ranker picks one at a time, knowing the picks before as pending. With the picks,
    what it took to ask a model (an Account as plain data; empty where none was).
    """
    if not n or not len(pool):
        return [], {}
    rng = context.rng("rank", len(history))
    if len(history) < context.initial:
        return to_ncodes(_first(context, pool[rng.permutation(len(pool))], n)), {}
    ranker, seed = context.ranker, int(rng.integers(2**31))
    pool = pool[ranker.rank(pool, history, seed=seed)]
    account = _told(context)
    if n == 1 or not isinstance(ranker, SequentialRanker):
        return to_ncodes(_first(context, pool, n)), account
    left = _first(context, pool, max(n, SHORT_LIST))
    picks = left[:1]
    while len(picks) < n and len(left) > 1:
        left = left[1:]
        left = left[ranker.rank(left, history.with_pending(picks), seed=seed)]
        picks = np.concatenate([picks, left[:1]])
    return to_ncodes(picks), account


def _first(context: Context, ranked: Codes, n: int) -> Codes:
    """The first `n` of them that are different architectures."""
    looked = 4 * n  # identical architectures are few, and fall out here
    found = context.proposer.distinct(ranked[:looked])
    while len(found) < n and looked < len(ranked):
        looked *= 4
        found = context.proposer.distinct(ranked[:looked])
    return found[:n]


def _told(context: Context) -> dict[str, Any]:
    """The ranker's account of its latest call, once what it has to say has been said."""
    ranker = context.ranker
    if not isinstance(ranker, AskingRanker):
        return {}
    while ranker.notes:
        context.observe(ranker.notes.pop(0))
    return ranker.usage.to_json()


def weigh(context: Context, history: History, findings: Findings) -> Findings:
    """Memory's findings after `history`, with what it decided put in the store."""
    if context.requests is not None:
        findings = replace(findings, kept=context.requests.kept)
    revised, decisions = context.memory.revise(history, findings)
    for i, decision in enumerate(decisions):
        context.store.set_attribute(f"memory:{decision['trial']:06d}:{i:03d}", decision)
    if revised.weighed != findings.weighed:
        context.store.set_attribute("weighed", revised.weighed)
    return revised
