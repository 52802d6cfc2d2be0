"""Training samples of a ranking language model: a history, and candidates of which one is best.

Samples are drawn on demand. Sample i of a seed is always the same, so a training continues after
an interruption, in any number of processes, without a store of samples. The held-out samples are
drawn first; a subspace that occurs among them is refused in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.ncode import NCode
from lm_searcher.tools.rankers.lm.finetuning.subspace_samples import (
    Limits,
    SubspaceSample,
    SubspaceSource,
)

HELD_OUT_SEED = 987_654_321


@dataclass(frozen=True)
class CandidateSet:
    """Distinct candidates with their values; exactly one of them is the best."""

    candidates: Sequence[NCode]
    values: NDArray[np.float64]
    """The true value of each candidate, higher is better; shape [candidates]."""

    @property
    def answer(self) -> NCode:
        """The best candidate."""
        return self.candidates[int(np.argmax(self.values))]


@dataclass(frozen=True)
class Sample:
    """A history and one or more candidate sets; no candidate is in the history."""

    history: Sequence[tuple[NCode, float | None]]
    """Code and score, None for a failed trial; in random order."""
    candidate_sets: Sequence[CandidateSet]
    key: str
    """The key of the subspace, see SubspaceSample."""


@dataclass(frozen=True)
class Shape:
    """The sizes of samples; ranges are inclusive."""

    limits: Limits = field(default_factory=Limits)
    history: tuple[int, int] = (5, 200)
    candidates: int = 10
    questions: int = 1
    """Candidate sets after one history."""

    def at(self, progress: float) -> Shape:
        """The sizes at a share of the ramp: two trials and two candidates at 0, this shape at 1.

        From short prompts a small model learns more easily to copy a candidate.
        """
        if progress >= 1:
            return self

        def grown(most: int) -> int:
            return round(2 + progress * (most - 2))

        low, high = self.history
        history = (min(low, grown(low)), max(grown(high), min(low, grown(low))))
        return replace(self, history=history, candidates=grown(self.candidates))


def make_sample(drawn: SubspaceSample, shape: Shape, rng: np.random.Generator) -> Sample | None:
    """A sample from the architectures of a subspace; None if no single candidate is the best."""
    order = rng.permutation(len(drawn.ncodes))
    low, high = shape.history
    known = int(rng.integers(low, min(high, len(order) - shape.candidates), endpoint=True))
    history, rest = order[:known], order[known:]
    rest = rest[~np.isnan(drawn.truth[rest])]
    if len(rest) < shape.candidates:
        return None
    candidate_sets = []
    for _ in range(shape.questions):
        chosen = rng.choice(rest, size=shape.candidates, replace=False)
        values = drawn.truth[chosen]
        if np.sum(values == values.max()) > 1 or not np.isfinite(values).all():
            return None
        candidate_sets.append(CandidateSet([drawn.ncodes[i] for i in chosen], values))
    scores = drawn.measured[history]
    pairs = zip(history, scores, strict=True)
    entries = [(drawn.ncodes[i], None if np.isnan(s) else float(s)) for i, s in pairs]
    return Sample(entries, candidate_sets, drawn.key)


@dataclass(frozen=True)
class Samples:
    """An endless sequence of samples: ``samples[i]`` depends on the fields and i only.

    Sources are drawn with the probabilities `shares`. A sample whose subspace is in `refused`
    is drawn anew.
    """

    sources: Sequence[SubspaceSource]
    shares: Sequence[float]
    shape: Shape
    seed: int
    refused: frozenset[str] = frozenset()
    ramp: int = 0
    """The number of samples over which the sizes grow to `shape`."""

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        shape = self.shape.at(index / self.ramp) if self.ramp else self.shape
        while True:
            source = self.sources[rng.choice(len(self.sources), p=self.shares)]
            drawn = source.draw(shape.limits, rng)
            if drawn.key in self.refused:
                continue
            if (sample := make_sample(drawn, shape, rng)) is not None:
                return sample


def held_out(samples: Samples, count: int) -> list[Sample]:
    """The first `count` samples of a seed that no training uses; one candidate set each."""
    shape = Shape(samples.shape.limits, samples.shape.history, samples.shape.candidates)
    stream = Samples(samples.sources, samples.shares, shape, HELD_OUT_SEED)
    return [stream[i] for i in range(count)]
