"""Selection: which architectures are evaluated next.

The one path from a history to picks. The graph, ask and tell, `rank_ncode` and, through `Search`,
the studies all go through a `Selector`:

    users' requests -> subspace -> pool -> feasibility -> ranking -> distinct picks

Everything that is drawn comes from (seed, trial number), so the same history gives the same picks.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from lm_searcher.agent.loop.memory import Findings, Memory
from lm_searcher.agent.loop.requests import Requests
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.records import Decision
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes, NCode, to_ncodes
from lm_searcher.spaces.objectives import Values, draw_weights
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.proposer import Proposer
from lm_searcher.tools.protocols import AskingRanker, BatchRanker, Ranker
from lm_searcher.tools.rankers.random import RandomRanker

SHORT_LIST = 200
"""The candidates of which several picks are chosen; twice the picks, if they are more."""

STAGES = {"propose": 0, "rank": 1, "trial": 2, "confirm": 3, "weights": 4}
"""What a random generator is for; part of its seed."""


class Proposal(NamedTuple):
    """What the ranker is asked to choose from."""

    findings: Findings
    """Memory's findings with users' requests applied."""
    requested: list[NCode]
    """Architectures that a user asked for: they are picked before any other."""
    pool: Codes
    """The candidates, shape [candidates, positions]; empty once the space is exhausted."""


class Selection(NamedTuple):
    """What is evaluated next, and the order that led to it."""

    picks: list[NCode]
    usage: dict[str, Any]
    """What asking a language model took, as plain data; empty where none was asked."""
    order: Codes
    """The pool in the order of preference, best first, shape [candidates, positions]."""


@dataclass
class Selector:
    """Chooses what is evaluated next; fixed for the life of a process."""

    space: SearchSpace
    objectives: ObjectiveSet
    ranker: Ranker
    proposer: Proposer
    requests: Requests
    memory: Memory = field(default_factory=Memory)
    seed: int = 0
    initial: int = 5
    """The number of random trials before the ranker is asked."""
    batch: int | None = 1
    """Trials picked at a time where all are awaited; None: as many as there are free places."""

    def rng(self, stage: Literal["propose", "rank", "weights"], number: int) -> np.random.Generator:
        """The generator of one step: a resumed run draws what an uninterrupted one would."""
        return np.random.default_rng([self.seed, number, STAGES[stage]])

    def weights(self, number: int) -> Values | None:
        """The weights that scalarise several objectives before trial `number`, shape
        [objectives]; None for one objective."""
        if not self.objectives.several:
            return None
        return draw_weights(len(self.objectives.goals), self.rng("weights", number))

    def propose(self, history: History, findings: Findings) -> Proposal:
        """Users' requests for the next trial, and the candidate pool after them.

        `history` holds every trial below the next one, pending trials included.
        """
        number = len(history)
        findings, requested = self.requests.apply(findings, number)
        history = history.with_pending(self.space.codes(requested))
        uniform = number < self.initial or isinstance(self.ranker, RandomRanker)
        rng = self.rng("propose", number)
        pool = self.proposer.pool(history, findings.subspace, rng, uniform)
        return Proposal(findings, requested, self.requests.permitted(pool))

    def select(self, pool: Codes, history: History, requested: list[NCode], n: int) -> Selection:
        """The next `n` picks, no two of them the same architecture: requests, then the best of
        the pool. The first `initial` trials take the pool in random order.
        """
        history = history.with_pending(self.space.codes(requested))
        more = max(0, n - len(requested))
        if not more or not len(pool):
            return Selection(requested, {}, pool)
        rng = self.rng("rank", len(history))
        if len(history) < self.initial:
            order, usage = pool[rng.permutation(len(pool))], {}
            picks = self._distinct(order, more)
        else:
            seed = int(rng.integers(2**31))
            order = pool[self.ranker.rank(pool, history, seed=seed)]
            usage = self._usage()
            picks = self._best(order, history, more, seed)
        return Selection([*requested, *to_ncodes(picks)], usage, order)

    def _best(self, order: Codes, history: History, n: int, seed: int) -> Codes:
        """The first `n` different architectures of the order.

        A ranker that can picks them so that no two are near-duplicates.
        """
        if n == 1 or not isinstance(self.ranker, BatchRanker):
            return self._distinct(order, n)
        left = self._distinct(order, max(2 * n, SHORT_LIST))
        return left[self.ranker.rank_batch(left, history, n, seed=seed)[:n]]

    def _distinct(self, order: Codes, n: int) -> Codes:
        """The first `n` of the order that are different architectures."""
        looked = 4 * n  # identical architectures are few
        found = self.proposer.distinct(order[:looked])
        while len(found) < n and looked < len(order):
            looked *= 4
            found = self.proposer.distinct(order[:looked])
        return found[:n]

    def _usage(self) -> dict[str, Any]:
        """The token usage of the ranker's last call, after its notes were passed on."""
        if not isinstance(self.ranker, AskingRanker):
            return {}
        while self.ranker.notes:
            self.note(self.ranker.notes.pop(0))
        return self.ranker.usage.to_json()

    def note(self, text: str) -> None:
        """Called with each note of a ranker that asks a model."""

    def revise(self, history: History, findings: Findings) -> tuple[Findings, list[Decision]]:
        """Memory's findings after `history`, and the decisions that led there."""
        return self.memory.revise(history, replace(findings, kept=self.requests.kept))
