"""Training samples of a ranking language model: a history, candidates, and which is the best.

Drawn when they are asked for. Sample i of a seed is always the same, so training goes on after
an interruption without a store of samples, in any number of processes. The samples of the
held-out set come first; a subspace that it has is refused in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.ncode import NCode
from lm_searcher.tools.rankers.lm.finetuning.subspace_samples import Limits, Source, Universe

HELD_OUT_SEED = 987_654_321


@dataclass(frozen=True)
class Question:
    """Different candidates of which one is the best."""

    candidates: Sequence[NCode]
    values: NDArray[np.float64]
    """What each is truly worth."""

    @property
    def answer(self) -> NCode:
        """The best candidate."""
        return self.candidates[int(np.argmax(self.values))]


@dataclass(frozen=True)
class Sample:
    """A history, and one or more questions after it; no candidate is in the history."""

    history: Sequence[tuple[NCode, float | None]]
    """Code and score, None for a failure; in random order."""
    questions: Sequence[Question]
    key: str
    """The subspace's."""


@dataclass(frozen=True)
class Shape:
    """How large samples are; ranges are inclusive."""

    limits: Limits = field(default_factory=Limits)
    history: tuple[int, int] = (5, 200)
    candidates: int = 10
    questions: int = 1

    def at(self, progress: float) -> Shape:
        """The shape of a lesson for beginners: histories of two and two candidates at progress
        0, this shape at 1. A small model learns to copy a candidate from short prompts."""
        if progress >= 1:
            return self

        def grown(most: int) -> int:
            return round(2 + progress * (most - 2))

        low, high = self.history
        history = (min(low, grown(low)), max(grown(high), min(low, grown(low))))
        return replace(self, history=history, candidates=grown(self.candidates))


def make_sample(universe: Universe, shape: Shape, rng: np.random.Generator) -> Sample | None:
    """A sample of the universe; None where its candidates do not differ in worth."""
    order = rng.permutation(len(universe.texts))
    low, high = shape.history
    known = int(rng.integers(low, min(high, len(order) - shape.candidates), endpoint=True))
    history, rest = order[:known], order[known:]
    rest = rest[~np.isnan(universe.truth[rest])]
    if len(rest) < shape.candidates:
        return None
    questions = []
    for _ in range(shape.questions):
        chosen = rng.choice(rest, size=shape.candidates, replace=False)
        values = universe.truth[chosen]
        if np.sum(values == values.max()) > 1 or not np.isfinite(values).all():
            return None
        questions.append(Question([universe.texts[i] for i in chosen], values))
    scores = universe.measured[history]
    pairs = zip(history, scores, strict=True)
    entries = [(universe.texts[i], None if np.isnan(s) else float(s)) for i, s in pairs]
    return Sample(entries, questions, universe.key)


@dataclass(frozen=True)
class Samples:
    """An endless list of samples: ``samples[i]`` depends on nothing but the fields and i.

    Sources are drawn with the probabilities `shares`. A sample whose subspace is in `refused`
    is drawn anew.
    """

    sources: Sequence[Source]
    shares: Sequence[float]
    shape: Shape
    seed: int
    refused: frozenset[str] = frozenset()
    ramp: int = 0
    """The samples over which lessons grow to `shape`."""

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        shape = self.shape.at(index / self.ramp) if self.ramp else self.shape
        while True:
            source = self.sources[rng.choice(len(self.sources), p=self.shares)]
            universe = source.draw(shape.limits, rng)
            if universe.key in self.refused:
                continue
            if (sample := make_sample(universe, shape, rng)) is not None:
                return sample


def held_out(samples: Samples, count: int) -> list[Sample]:
    """The first `count` samples of a seed that is not used for training; one question each."""
    shape = Shape(samples.shape.limits, samples.shape.history, samples.shape.candidates)
    stream = Samples(samples.sources, samples.shares, shape, HELD_OUT_SEED)
    return [stream[i] for i in range(count)]
