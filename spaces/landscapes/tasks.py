"""Random search tasks: the shape of a space, an objective, noise, and failures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.landscapes.graph_landscapes import Conditional, LinkList, SignalFlow
from lm_searcher.spaces.landscapes.landscapes import (
    Additive,
    Landscape,
    Multiplicative,
    Pairwise,
    RandomNet,
    SingleIndex,
    Values,
)
from lm_searcher.spaces.landscapes.region_landscapes import HiddenOptimum, Regions, Trees
from lm_searcher.spaces.landscapes.space_shape import SpaceShape, random_shape
from lm_searcher.spaces.ncode import Codes

KINDS: dict[str, tuple[Any, float]] = {
    "additive": (Additive, 0.16),
    "pairwise": (Pairwise, 0.16),
    "net": (RandomNet, 0.16),
    "flow": (SignalFlow, 0.2),
    "index": (SingleIndex, 0.1),
    "product": (Multiplicative, 0.08),
    "trees": (Trees, 0.06),
    "optimum": (HiddenOptimum, 0.05),
    "links": (LinkList, 0.03),
}
"""Each kind of landscape, and its probability."""

REFERENCE = 256
"""Number of random architectures that a landscape is standardised by."""


@dataclass(frozen=True)
class Warp:
    """A monotone transformation of standardised values, for the distributions of real results.

    Crowded below a ceiling with a long lower tail, stretched, or floored at chance level.
    """

    bend: float
    """Positive: the top is compressed; negative: it is stretched."""
    floor: float
    """The smallest value, -inf for none."""
    tanh: float
    """The strength of saturation at both ends, 0 for none."""

    @classmethod
    def make(cls, rng: np.random.Generator) -> Self:
        bends = [0.0, rng.uniform(0, 1.2), rng.uniform(0.8, 2.5), rng.uniform(-0.7, 0)]
        bend = rng.choice(bends, p=[0.15, 0.4, 0.3, 0.15])
        floor = rng.uniform(-2, 0) if rng.random() < 0.2 else -np.inf
        return cls(float(bend), float(floor), rng.uniform(0.5, 1.5) if rng.random() < 0.15 else 0.0)

    def __call__(self, values: Values) -> Values:
        values = np.maximum(np.clip(values, -8, 6), self.floor)
        if self.tanh:
            values = np.tanh(self.tanh * values) / self.tanh
        if abs(self.bend) > 1e-3:
            values = -np.expm1(-self.bend * np.clip(values, -5, 6)) / self.bend
        return np.asarray(values)


@dataclass(frozen=True)
class Mixture:
    """A weighted sum of standardised landscapes minus penalties, standardised and warped."""

    parts: tuple[Landscape, ...]
    scales: tuple[tuple[float, float], ...]
    """(mean, weight / standard deviation) of each part."""
    penalty: Landscape | None
    shift: float
    warp: Warp

    def __call__(self, codes: Codes) -> Values:
        total = np.full(len(codes), self.shift)
        for part, (mean, factor) in zip(self.parts, self.scales, strict=True):
            total += (part(codes) - mean) * factor
        if self.penalty is not None:
            total -= self.penalty(codes)
        return self.warp(total)


@dataclass(frozen=True)
class Task:
    """A noise-free objective on a space of this shape, and an evaluation's noise and failures."""

    shape: SpaceShape
    landscape: Landscape
    noise: float
    """Standard deviation of the noise of one evaluation, in the objective's unit."""
    failure: Regions | None
    """Architectures inside these regions fail."""
    chance: float
    """The probability that an evaluation of any architecture fails."""

    def fails(self, codes: Codes, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Which evaluations fail, shape [n]."""
        failed = rng.random(len(codes)) < self.chance
        return failed if self.failure is None else failed | (self.failure(codes) > 0)


def random_landscape(shape: SpaceShape, rng: np.random.Generator) -> Mixture:
    """A mixture of one to three kinds of landscape, at random."""
    names, odds = list(KINDS), np.array([share for _, share in KINDS.values()])
    count = int(rng.choice([1, 2, 3], p=[0.4, 0.4, 0.2]))
    chosen = rng.choice(names, p=odds, size=count)
    probe = shape.sample(REFERENCE, rng)
    weights = rng.dirichlet(np.full(count, 1.5))
    parts: list[Landscape] = []
    scales = []
    for name, weight in zip(chosen, weights, strict=True):
        if shape.positions < 3 and name == "links":
            name = "additive"
        part: Landscape = KINDS[name][0].make(shape, rng)
        if shape.positions > 2 and rng.random() < 0.12:
            part = Conditional.wrap(part, shape, rng)
        values = part(probe)
        spread = float(values.std())
        parts.append(part)
        scales.append((float(values.mean()), float(weight) / spread if spread > 1e-6 else 0.0))
    penalty = Regions.make(shape, rng, rng.uniform(0.5, 5)) if rng.random() < 0.25 else None
    raw = Mixture(tuple(parts), tuple(scales), penalty, 0.0, Warp(0.0, -np.inf, 0.0))
    values = raw(probe)
    mean, spread = float(np.mean(values)), float(np.std(values)) + 1e-9
    final = tuple((m, f / spread) for m, f in scales)
    scaled = None
    if penalty is not None:
        scaled = Regions(penalty.positions, penalty.options, penalty.penalties / spread)
    return Mixture(tuple(parts), final, scaled, -mean / spread, Warp.make(rng))


def random_task(rng: np.random.Generator, shape: SpaceShape | None = None, **limits: int) -> Task:
    """A random task; without a shape, one is drawn by ``random_shape(rng, **limits)``."""
    shape = shape or random_shape(rng, **limits)
    landscape = random_landscape(shape, rng)
    middle, high = np.quantile(landscape(shape.sample(REFERENCE, rng)), [0.5, 0.95])
    spread = (
        float(high - middle) / 1.6
    )  # so that a long tail of bad results does not increase the noise
    level = np.exp(rng.uniform(np.log(0.003), np.log(0.5))) if rng.random() < 0.75 else 0.0
    failure = Regions.make(shape, rng, 1.0) if rng.random() < 0.1 else None
    chance = rng.uniform(0, 0.3) if rng.random() < 0.1 else 0.0
    return Task(shape, landscape, float(level * spread), failure, float(chance))
