"""Memory: the evidence of the history about each option, and the options still searched.

For each position, the evidence for an option is the mean outcome of the trials that have it,
with an interval. Outcomes are ranks scaled to [0, 1], so neither the objective's scale nor its
tail matters; a failed trial ranks below every other. An option is pruned when the upper end of
its interval lies below the lower end of the position's best option: never one that the elites
use, never one of the last two. Stagnation brings options back, the last pruned first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from lm_searcher.agent.study.records import USER, Decision
from lm_searcher.spaces.history import History
from lm_searcher.spaces.settings import Count, Positive, SettingsModel
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace


@dataclass(frozen=True)
class Findings:
    """What memory holds between trials."""

    subspace: Subspace
    pruned: list[list[int]]
    """[position, option] of every prune that stands, in order."""
    weighed: int = 0
    """Finished trials when the evidence was last weighed."""
    kept: frozenset[tuple[int, int]] = frozenset()
    """(position, option) of the options that a user restored: memory does not prune them."""


class Memory(SettingsModel):
    """[memory]: prune options on evidence, and bring them back. Sizes are in trials."""

    ROLE: ClassVar = "memory"

    enabled: bool = True
    """Whether options are pruned at all."""
    start: Count = 20
    """No pruning before this many finished trials."""
    interval: Count = 10
    """Trials between two looks at the evidence; in a long run, a hundredth of all."""
    width: Positive = 2.5
    """Half the width of an option's interval, in standard errors."""
    elites: Count = 10
    """The options of this many best trials are never pruned."""
    stagnation: Count = 30
    """After this many trials without a new best, the last prune is undone."""

    def revise(self, history: History, findings: Findings) -> tuple[Findings, list[Decision]]:
        """The findings after the latest trials, and the decisions that were made."""
        known = int(np.count_nonzero(~history.pending))
        interval = max(self.interval, findings.weighed // 100)
        if not self.enabled or known < max(self.start, findings.weighed + interval):
            return findings, []
        subspace, pruned = findings.subspace, findings.pruned
        if self._stagnates(history):
            if not pruned:
                return Findings(subspace, pruned, known), []
            position, option = pruned[-1]
            decision = decision_of(known, "widen", subspace, position, option)
            return Findings(subspace.widen(position, option), pruned[:-1], known), [decision]
        subspace, pruned, decisions = self._prune(history, findings)
        return Findings(subspace, pruned, known), decisions

    def _stagnates(self, history: History) -> bool:
        best = history.elites(1)
        if not len(best):
            return False
        since = int(np.count_nonzero(~history.pending[best[0] :]))
        return since > self.stagnation

    def _prune(
        self, history: History, findings: Findings
    ) -> tuple[Subspace, list[list[int]], list[Decision]]:
        subspace, pruned = findings.subspace, findings.pruned
        decisions: list[Decision] = []
        known = int(np.count_nonzero(~history.pending))
        elites = history.codes[history.elites(self.elites)]
        table = Evidence.of(history, int(subspace.space.cardinalities.max()), self.width)
        for position in range(len(subspace.allowed)):
            allowed = np.flatnonzero(subspace.mask[position])
            best = allowed[np.argmax(table.lower[position, allowed])]
            # worst first, so that the last two kept are the better ones
            for option in allowed[np.argsort(table.upper[position, allowed], kind="stable")]:
                if len(subspace.allowed[position]) <= 2 or option in elites[:, position]:
                    continue
                if (position, int(option)) in findings.kept:
                    continue
                if table.upper[position, option] < table.lower[position, best]:
                    subspace = subspace.restrict(position, int(option))
                    pruned = [*pruned, [position, int(option)]]
                    evidence = table.of_pair(position, option, best)
                    decision = decision_of(known, "prune", subspace, position, int(option))
                    decisions.append(decision.model_copy(update={"evidence": evidence}))
        return subspace, pruned, decisions


@dataclass(frozen=True)
class Evidence:
    """Per position and option (shape [positions, options]): trials, mean rank, interval."""

    trials: NDArray[np.int64]
    mean: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]

    @classmethod
    def of(cls, history: History, options: int, width: float) -> Evidence:
        """From all finished trials; an option never tried has the interval (-inf, inf)."""
        known = np.flatnonzero(~np.isnan(history.scores) | history.failed)
        codes, ranks = history.codes[known], outcome_ranks(history, known)
        positions = codes.shape[1]
        cells = (np.arange(positions) * options + codes).ravel()
        size = positions * options
        trials = np.bincount(cells, minlength=size).reshape(positions, options)
        weights = np.repeat(ranks, positions)
        total = np.bincount(cells, weights, minlength=size).reshape(positions, options)
        squares = np.bincount(cells, weights**2, minlength=size).reshape(positions, options)
        n = np.maximum(trials, 1)
        mean = total / n
        # The spread within an option, drawn to that of all trials while it is little known.
        prior = 4.0
        spread = np.var(ranks) if len(ranks) else 1.0
        variance = (np.maximum(squares - n * mean**2, 0) + prior * spread) / (n + prior)
        half = np.where(trials > 0, width * np.sqrt(variance / n), np.inf)
        return cls(trials, mean, mean - half, mean + half)

    def of_pair(self, position: int, option: int, best: int) -> dict[str, Any]:
        """The evidence for one prune, as it is stored."""
        return {
            "trials": int(self.trials[position, option]),
            "mean_rank": round(float(self.mean[position, option]), 3),
            "upper": round(float(self.upper[position, option]), 3),
            "best_option": int(best),
            "best_trials": int(self.trials[position, best]),
            "best_mean_rank": round(float(self.mean[position, best]), 3),
            "best_lower": round(float(self.lower[position, best]), 3),
        }


def outcome_ranks(history: History, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Ranks of the rows' outcomes in [0, 1], best 1, equal ones alike, failures lowest."""
    scores = np.where(history.failed[rows], -np.inf, history.scores[rows])
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle = last - (counts + 1) / 2
    ranks: NDArray[np.float64] = middle[inverse] / max(1, len(rows) - 1)
    return ranks


def decision_of(
    trial: int,
    action: Literal["prune", "widen"],
    subspace: Subspace,
    position: int,
    option: int,
    **more: Any,
) -> Decision:
    """The record of a prune or widening before trial `trial`."""
    place = subspace.space.positions[position]
    return Decision(
        trial=trial,
        action=action,
        position=place.name,
        option=option,
        choice=place.choices[option],
        **more,
    )


def applied(
    subspace: Subspace, pruned: list[list[int]], decision: Decision
) -> tuple[Subspace, list[list[int]]]:
    """The subspace and memory's prunes after one more decision, of memory or of a user.

    Memory never undoes a user's prune.
    """
    places = {p.name: i for i, p in enumerate(subspace.space.positions)}
    position, option = pair = [places[decision.position], decision.option]
    others = [other for other in pruned if other != pair]
    if decision.action == "widen":
        return subspace.widen(position, option), others
    if subspace.mask[position, option]:
        subspace = subspace.restrict(position, option)
    return subspace, others if decision.by == USER else [*others, pair]


def remembered(space: SearchSpace, decisions: Iterable[Decision], weighed: int = 0) -> Findings:
    """The findings after a run's decisions, applied in their order."""
    subspace, pruned = Subspace.full(space), list[list[int]]()
    for decision in decisions:
        subspace, pruned = applied(subspace, pruned, decision)
    return Findings(subspace, pruned, weighed)
