"""Architectures of randomly pruned subspaces with their results, for training samples.

This is the paper's pruning-based subspace sampling (arXiv 2509.05657, section 3.2): each position
and each option is pruned with probability 0.5, the remaining ones are numbered anew, and 100-200
architectures are drawn. So a digit has another meaning in each subspace, which the model has to
infer from the history.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import TrainingError
from lm_searcher.spaces.landscapes.space_shape import SpaceShape, random_shape
from lm_searcher.spaces.landscapes.tasks import random_task
from lm_searcher.spaces.ncode import DIGITS, Codes, NCode, to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.spaces.tables import Table

PRUNED = 0.5
"""The probability that a position, or an option of another position, is pruned."""


@dataclass(frozen=True)
class SubspaceSample:
    """Distinct architectures of one subspace with their results; higher is better."""

    ncodes: Sequence[NCode]
    """Each architecture in the digits of the subspace."""
    truth: NDArray[np.float64]
    """The true value of each, NaN for one that fails."""
    measured: NDArray[np.float64]
    """One noisy measurement of each, NaN for a failure."""
    key: str
    """A digest of the subspace and its objective."""


class SubspaceSource(Protocol):
    """A source of subspaces with results."""

    def draw(self, limits: Limits, rng: np.random.Generator) -> SubspaceSample:
        """Draw a subspace within `limits`, and architectures of it."""
        ...


@dataclass(frozen=True)
class Limits:
    """The sizes of subspaces; ranges are inclusive."""

    positions: tuple[int, int] = (1, 36)
    """Open positions after pruning."""
    options: int = 10
    """The most options of a synthetic position before pruning."""
    architectures: tuple[int, int] = (100, 200)

    def accept(self, subspace: Subspace) -> bool:
        """Whether a subspace has an allowed number of open positions and enough architectures."""
        opened = sum(len(kept) > 1 for kept in subspace.allowed)
        low, high = self.positions
        return low <= opened <= high and subspace.size >= self.architectures[0]


def pruned(space: SearchSpace, rng: np.random.Generator) -> Subspace:
    """A random subspace: a pruned position keeps one option, each other one at least one."""
    allowed = []
    for position in space.positions:
        n = len(position.choices)
        if rng.random() < PRUNED:
            kept = rng.integers(n, size=1)
        else:
            kept = np.flatnonzero(rng.random(n) >= PRUNED)
            if not len(kept):
                kept = rng.integers(n, size=1)
        allowed.append("".join(DIGITS[k] for k in kept))
    return Subspace(space, tuple(allowed))


@dataclass(frozen=True)
class Landscapes:
    """Synthetic landscapes: each draw makes a new space and a new objective."""

    def draw(self, limits: Limits, rng: np.random.Generator) -> SubspaceSample:
        """See SubspaceSource."""
        low, high = limits.positions
        while True:
            shape = random_shape(
                rng,
                min_positions=max(2, low),
                max_positions=min(64, 2 * high),
                max_options=limits.options,
            )
            subspace = pruned(_space(shape), rng)
            if not limits.accept(subspace):
                continue
            task = random_task(rng, shape)
            codes = distinct(subspace, int(rng.integers(*limits.architectures, endpoint=True)), rng)
            failed = task.fails(codes, rng)
            truth = np.where(failed, np.nan, task.landscape(codes))
            measured = truth + rng.normal(scale=task.noise + 1e-12, size=len(codes))
            ncodes = [subspace.to_text(code) for code in to_ncodes(codes)]
            return SubspaceSample(
                ncodes, truth, measured, _key(repr(subspace.allowed), truth.tobytes())
            )


def _space(shape: SpaceShape) -> SearchSpace:
    sizes = enumerate(shape.cardinalities)
    return SearchSpace.of("synthetic", {f"p{i}": range(int(n)) for i, n in sizes})


def distinct(subspace: Subspace, n: int, rng: np.random.Generator) -> Codes:
    """Up to `n` distinct architectures of a subspace, in random order."""
    n = min(n, subspace.size)
    if subspace.size <= 100_000:
        # The architectures are numbered as mixed-radix numbers, the last position fastest.
        places = rng.choice(subspace.size, size=n, replace=False)
        columns = []
        for kept in reversed(subspace.allowed):
            options = np.array([DIGITS.index(d) for d in kept], np.uint8)
            columns.append(options[places % len(kept)])
            places //= len(kept)
        return np.stack(columns[::-1], axis=1)
    codes, first = np.unique(subspace.sample(2 * n, rng), axis=0, return_index=True)
    return codes[np.argsort(first)][:n]


@dataclass(frozen=True)
class TableRows:
    """Subspaces of a tabular benchmark. Architectures without a value are not used."""

    table: Table
    metric: str
    sign: float
    """-1 for a metric of which lower is better, else 1."""

    @cached_property
    def known(self) -> tuple[Codes, NDArray[np.float64]]:
        """Each architecture once, with its mean value."""
        codes, inverse = np.unique(self.table.codes, axis=0, return_inverse=True)
        values = self.sign * self.table.column(self.metric)
        count = np.bincount(inverse.ravel(), minlength=len(codes))
        mean = np.bincount(inverse.ravel(), values, len(codes)) / count
        finite = np.isfinite(mean)
        return codes[finite], mean[finite]

    def draw(self, limits: Limits, rng: np.random.Generator) -> SubspaceSample:
        """See SubspaceSource. Raises TrainingError if the table has no such subspace."""
        codes, values = self.known
        for _ in range(1000):
            subspace = pruned(self.table.space, rng)
            if not limits.accept(subspace):
                continue
            inside = np.flatnonzero(subspace.contains(codes))
            if len(inside) < limits.architectures[0]:
                continue
            count = min(len(inside), int(rng.integers(*limits.architectures, endpoint=True)))
            rows = rng.choice(inside, size=count, replace=False)
            ncodes = [subspace.to_text(code) for code in to_ncodes(codes[rows])]
            key = _key(repr(subspace.allowed), self.table.digest(self.metric).encode())
            return SubspaceSample(ncodes, values[rows], values[rows], key)
        low, high = limits.positions
        raise TrainingError(
            f"table '{self.table.space.name}' has no subspace of {low} to {high} open positions "
            f"with {limits.architectures[0]} architectures; lower [data] architectures or positions"
        )


def _key(allowed: str, objective: bytes) -> str:
    return hashlib.sha256(allowed.encode() + objective).hexdigest()[:32]
