"""The candidate pool: the architectures that a ranker chooses from.

With a perfect ranker, ten uniform candidates still lose to plain evolution (PAPER.md). So a pool
is large and contains neighbours of the best trials. A space that is small enough is enumerated.
No pool contains a candidate that is known to violate a constraint.
"""

from __future__ import annotations

import numpy as np

from lm_searcher.spaces.distinct import canonical_keys, first_rows, keys
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.tools.feasibility import Feasibility
from lm_searcher.tools.tried import TriedArchitectures
from lm_searcher.tools.variation import breed

MAX_ENUMERATED = 20_000
"""A space of at most this many architectures is enumerated."""

UNIFORM, OUTSIDE = 0.4, 0.1
"""Shares of a sampled pool: uniform in the subspace; from the whole space, so that a wrong prune
can be undone. The rest are mutants and crossovers of the elites."""

ELITES = 20

ROUNDS = 20
"""The most times that a pool is sampled while constraints rule out most candidates."""


class Proposer:
    """Makes candidate pools.

    `rows` limits them to given architectures (those of an incomplete table), `feasibility` to
    those that violate no constraint. Raises ConfigError if no feasible architecture is found.
    """

    def __init__(
        self,
        space: SearchSpace,
        rows: Codes | None = None,
        size: int = 1000,
        feasibility: Feasibility | None = None,
    ) -> None:
        self.space = space
        self.size = size
        self.feasibility = feasibility
        self.enumerated = rows
        """Every architecture that may be proposed, shape [n, positions]; None if too many."""
        if rows is None and space.size <= MAX_ENUMERATED:
            self.enumerated = space.enumerate()
        self._tried = TriedArchitectures(space)
        if feasibility is not None:
            self._apply(feasibility)
        if self.enumerated is not None:
            canonical = canonical_keys(self.space, self.enumerated)
            classes, self._class_of = np.unique(canonical, return_inverse=True)
            self._tried = TriedArchitectures(space, classes)

    def _apply(self, feasibility: Feasibility) -> None:
        """Filter an enumerated pool; for a sampled pool, check that some candidate is feasible."""
        if self.enumerated is None:
            full, rng = Subspace.full(self.space), np.random.default_rng(0)
            sampled, none = full.sample(self.size, rng), History.empty(len(self.space.positions))
            codes = self._extended(feasibility, sampled, full, rng, True, none)
            if feasibility.feasible(codes).any():
                return
            subject = f"none of {len(codes):,} architectures drawn from"
        else:
            codes = self.enumerated
            self.enumerated = codes[feasibility.feasible(codes)]
            if len(self.enumerated):
                return
            subject = "no architecture of"
        raise ConfigError(
            f"{subject} space '{self.space.name}' satisfies {feasibility}; "
            + feasibility.extremes(codes)
        )

    @property
    def exception(self) -> str:
        """What an empty pool leaves out; follows "the space is exhausted" in messages."""
        return f" but for what breaks {self.feasibility}" if self.feasibility else ""

    def pool(
        self,
        history: History,
        subspace: Subspace,
        rng: np.random.Generator,
        uniform: bool = False,
    ) -> Codes:
        """Architectures that no trial has yet, shape [n, positions]; empty when there are none.

        Codes of the same architecture count as one. `uniform`: without mutants of the elites, for
        trials that are to be random.
        """
        if self.enumerated is not None:
            return self._from_enumerated(self.enumerated, history, subspace, rng)
        elites = history.codes[history.elites(0 if uniform else ELITES)]
        sampled = self._sample(elites, subspace, rng, int(1.25 * self.size))
        if self.feasibility is not None:
            return self._feasible(self.feasibility, sampled, history, subspace, rng, uniform)
        pool = rng.permutation(self._new(sampled, history))[: self.size]
        if not len(pool) and len(history) < self.space.size:  # the subspace is exhausted
            full = Subspace.full(self.space)
            pool = self._new(full.sample(20 * self.size, rng), history)[: self.size]
            if not len(pool) and self.space.size <= MAX_ENUMERATED**2:
                pool = self._new(self.space.enumerate(), history)[: self.size]
        return pool

    def _feasible(
        self,
        feasibility: Feasibility,
        sampled: Codes,
        history: History,
        subspace: Subspace,
        rng: np.random.Generator,
        uniform: bool,
    ) -> Codes:
        """A pool of feasible candidates: of the subspace, or if it has none, of the space."""
        pool = sampled[:0]
        for inside in (subspace, Subspace.full(self.space)):
            codes = self._extended(feasibility, sampled, inside, rng, uniform, history)
            pool = self._new(codes[feasibility.feasible(codes)], history)
            if len(pool):
                break
            sampled = Subspace.full(self.space).sample(len(sampled), rng)
        return rng.permutation(pool)[: self.size]

    def _extended(
        self,
        feasibility: Feasibility,
        codes: Codes,
        subspace: Subspace,
        rng: np.random.Generator,
        uniform: bool,
        history: History,
    ) -> Codes:
        """`codes` and more, until a fifth of a pool is feasible and new, or ROUNDS are over.

        The additional ones are children of those with the smallest violation, so that the search
        reaches a feasible corner of the space. With `uniform` they are uniform instead, once any
        candidate is feasible.
        """
        n, violations = len(codes), feasibility.violations(codes)
        for _ in range(ROUNDS - 1):
            if len(self._new(codes[violations <= 0], history)) >= self.size / 5:
                break
            if uniform and (violations <= 0).any():
                more = subspace.sample(n, rng)
            else:
                closest = np.argsort(violations, kind="stable")[: 5 * ELITES]
                more = breed(codes[closest], n, subspace, rng)
            codes = np.concatenate([codes, more])
            codes = codes[first_rows(keys(codes))]
            violations = feasibility.violations(codes)
        return codes

    def distinct(self, codes: Codes) -> Codes:
        """The first row of each class of identical architectures, in order."""
        return codes[first_rows(canonical_keys(self.space, codes))]

    def _from_enumerated(
        self, codes: Codes, history: History, subspace: Subspace, rng: np.random.Generator
    ) -> Codes:
        new = self._tried.untried(history.codes)[self._class_of]
        chosen = new & subspace.contains(codes)
        outside = np.flatnonzero(new & ~chosen)
        if chosen.any() and len(outside):
            share = min(len(outside), int(np.ceil(OUTSIDE * chosen.sum() / (1 - OUTSIDE))))
            outside = rng.choice(outside, share, replace=False)
        chosen[outside] = True
        return codes[chosen]

    def _new(self, codes: Codes, history: History) -> Codes:
        """One row of each class of identical architectures that the history does not have."""
        canonical = canonical_keys(self.space, codes)
        first = first_rows(canonical)
        return codes[first[self._tried.new(canonical[first], history.codes)]]

    def _sample(self, elites: Codes, subspace: Subspace, rng: np.random.Generator, n: int) -> Codes:
        if not len(elites):
            return subspace.sample(n, rng)
        uniform, outside = int(UNIFORM * n), int(OUTSIDE * n)
        full = Subspace.full(self.space)
        return np.concatenate(
            [
                subspace.sample(uniform, rng),
                breed(elites, n - uniform - outside, subspace, rng),
                self.space.sample(outside - outside // 2, rng),
                breed(elites, outside // 2, full, rng),
            ]
        )
