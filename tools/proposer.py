"""The candidate pool: what the ranker chooses from.

A perfect ranker over ten uniform candidates loses to plain evolution (PAPER.md): the pool must
be large and hold the neighbours of the best. A space that is small enough is the pool, whole.
What is known to break a constraint is in no pool.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes, to_codes, to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.tools.feasibility import Feasibility

WHOLE = 20_000
"""A space of at most this many architectures is the pool, whole."""

UNIFORM, OUTSIDE = 0.4, 0.1
"""Shares of a drawn pool: uniform in the subspace; from the whole space, so that a wrong prune
can be undone. The rest are mutants and crossovers of the elites."""

ELITES = 20

ROUNDS = 20
"""Draws of a pool at most, where constraints bar much of what is drawn."""


def keys(codes: Codes) -> NDArray[np.bytes_]:
    """One sortable key a row, shape [n]."""
    shifted = np.ascontiguousarray(codes + np.uint8(1))  # numpy drops trailing zero bytes
    return shifted.view(f"S{codes.shape[1]}").ravel()


class Proposer:
    """Draws pools. `rows` limits them to given architectures, as a sampled table does; `known` to
    those that are not known to break a constraint.

    Raises ConfigError where there are none, as far as can be seen.
    """

    def __init__(
        self,
        space: SearchSpace,
        rows: Codes | None = None,
        size: int = 1000,
        known: Feasibility | None = None,
    ) -> None:
        self.space = space
        self.size = size
        self.known = known
        self.whole = rows
        if rows is None and space.size <= WHOLE:
            self.whole = space.enumerate()
        if known is not None:
            self._bar(known)
        if self.whole is not None:
            self._whole_keys = self._canonical_keys(self.whole)
            self._classes, self._class_of = np.unique(self._whole_keys, return_inverse=True)

    def _bar(self, known: Feasibility) -> None:
        """Keep what is permitted of a pool that is the whole; of others, see that there is any."""
        whole = self.whole
        if whole is None:
            full, rng = Subspace.full(self.space), np.random.default_rng(0)
            drawn, none = full.sample(self.size, rng), History.empty(len(self.space.positions))
            found = self._permitted(known, drawn, full, rng, True, none)
            if known.permitted(found).any():
                return
            where = f"none of {len(found):,} architectures drawn from"
        else:
            self.whole = whole[known.permitted(whole)]
            if len(self.whole):
                return
            where, found = "no architecture of", whole
        name = f"space '{self.space.name}'"
        raise ConfigError(f"{where} {name} satisfies {known}; {known.nearest(found)}")

    @property
    def exception(self) -> str:
        """What an empty pool leaves out, to be said after "the space is exhausted"."""
        return f" but for what breaks {self.known}" if self.known else ""

    def _canonical_keys(self, codes: Codes) -> NDArray[np.bytes_]:
        if self.space.canonical_form is None or not len(codes):
            return keys(codes)
        canonical = map(self.space.canonical_form, to_ncodes(codes))
        return keys(to_codes(canonical, codes.shape[1]))

    def pool(
        self,
        history: History,
        subspace: Subspace,
        rng: np.random.Generator,
        uniform: bool = False,
    ) -> Codes:
        """Architectures not tried yet, shape [n, positions]; empty once there are none.

        Identical architectures under different codes count as one. With `uniform` a drawn pool
        holds no mutants: it is for trials that are to be random.
        """
        if self.whole is not None:
            return self._from_whole(self.whole, history, subspace, rng)
        elites = history.codes[history.elites(0 if uniform else ELITES)]
        drawn = self._draw(elites, subspace, rng, int(1.25 * self.size))
        if self.known is not None:
            return self._from_permitted(self.known, drawn, history, subspace, rng, uniform)
        pool = rng.permutation(self._fresh(drawn, history))[: self.size]
        if not len(pool) and len(history) < self.space.size:  # the subspace is used up
            full = Subspace.full(self.space)
            pool = self._fresh(full.sample(20 * self.size, rng), history)[: self.size]
            if not len(pool) and self.space.size <= WHOLE**2:
                pool = self._fresh(self.space.enumerate(), history)[: self.size]
        return pool

    def _from_permitted(
        self,
        known: Feasibility,
        drawn: Codes,
        history: History,
        subspace: Subspace,
        rng: np.random.Generator,
        uniform: bool,
    ) -> Codes:
        """The pool where constraints are known: of the subspace, or else of the whole space."""
        pool = drawn[:0]
        for inside in (subspace, Subspace.full(self.space)):
            found = self._permitted(known, drawn, inside, rng, uniform, history)
            pool = self._fresh(found[known.permitted(found)], history)
            if len(pool):
                break
            drawn = Subspace.full(self.space).sample(len(drawn), rng)
        return rng.permutation(pool)[: self.size]

    def _permitted(
        self,
        known: Feasibility,
        found: Codes,
        subspace: Subspace,
        rng: np.random.Generator,
        uniform: bool,
        history: History,
    ) -> Codes:
        """What was drawn, and more while less than a fifth of a pool of it is permitted and new.

        More are children of those that overstep least, so that a corner of a space is found too;
        with `uniform` further uniform draws, unless none was permitted yet.
        """
        n, over = len(found), known.violations(found)
        for _ in range(ROUNDS - 1):
            if len(self._fresh(found[over <= 0], history)) >= self.size / 5:
                break
            if uniform and (over <= 0).any():
                more = subspace.sample(n, rng)
            else:
                best = np.argsort(over, kind="stable")[: 5 * ELITES]
                more = self._breed(found[best], n, subspace, rng)
            found = np.concatenate([found, more])
            _, first = np.unique(keys(found), return_index=True)
            found = found[np.sort(first)]
            over = known.violations(found)
        return found

    def distinct(self, codes: Codes) -> Codes:
        """The first row of each class of identical architectures, in order."""
        _, first = np.unique(self._canonical_keys(codes), return_index=True)
        return codes[np.sort(first)]

    def _from_whole(
        self, whole: Codes, history: History, subspace: Subspace, rng: np.random.Generator
    ) -> Codes:
        fresh = np.ones(len(self._classes), dtype=bool)
        if len(history):
            tried = self._canonical_keys(history.codes)
            places = np.searchsorted(self._classes, tried).clip(max=len(self._classes) - 1)
            fresh[places[self._classes[places] == tried]] = False
        left = fresh[self._class_of]
        inside = left & subspace.contains(whole)
        outside = np.flatnonzero(left & ~inside)
        if inside.any() and len(outside):
            share = min(len(outside), int(np.ceil(OUTSIDE * inside.sum() / (1 - OUTSIDE))))
            outside = rng.choice(outside, share, replace=False)
        chosen = inside
        chosen[outside] = True
        return whole[chosen]

    def _fresh(self, codes: Codes, history: History) -> Codes:
        found = self._canonical_keys(codes)
        _, first = np.unique(found, return_index=True)
        first = np.sort(first)
        new = ~np.isin(found[first], self._canonical_keys(history.codes))
        return codes[first[new]]

    def _draw(self, elites: Codes, subspace: Subspace, rng: np.random.Generator, n: int) -> Codes:
        if not len(elites):
            return subspace.sample(n, rng)
        uniform, outside = int(UNIFORM * n), int(OUTSIDE * n)
        full = Subspace.full(self.space)
        return np.concatenate(
            [
                subspace.sample(uniform, rng),
                self._breed(elites, n - uniform - outside, subspace, rng),
                self.space.sample(outside - outside // 2, rng),
                self._breed(elites, outside // 2, full, rng),
            ]
        )

    @staticmethod
    def _breed(elites: Codes, n: int, subspace: Subspace, rng: np.random.Generator) -> Codes:
        """Children of the elites: one or two edits, and of every third a crossover first."""
        rows = np.arange(n)
        children = elites[rng.integers(0, len(elites), n)].copy()
        mates = elites[rng.integers(0, len(elites), n)]
        crossed = (rows % 3 == 0)[:, None] & (rng.random(children.shape) < 0.5)
        children = np.where(crossed, mates, children)
        drawn = subspace.sample(n, rng)
        for edit in range(2):
            place = rng.integers(0, children.shape[1], n)
            edited = rows if edit == 0 else rows[rng.random(n) < 0.5]
            children[edited, place[edited]] = drawn[edited, place[edited]]
        return children
