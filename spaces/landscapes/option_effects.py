"""Effects of single options, from which synthetic landscapes are composed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.landscapes.space_shape import SpaceShape

Effects = NDArray[np.float64]
"""Shape [positions, most options]; entries beyond a position's options are not used."""

ORDERED_SHAPES = ("line", "saturating", "peak", "cliff", "valley", "smooth")


def ordered_effect(places: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A random curve at `places` in [-1, 1].

    A line, a saturating curve (capacity), a peak (a learning rate), a cliff (too large a rate
    diverges), a valley, or another smooth curve.
    """
    shape = rng.choice(ORDERED_SHAPES, p=[0.2, 0.25, 0.3, 0.12, 0.03, 0.1])
    sign = rng.choice([-1.0, 1.0])
    x = places * sign
    centre = rng.uniform(-0.9, 0.9)
    if shape == "line":
        return np.asarray(x)
    if shape == "saturating":
        rate = rng.uniform(0.7, 4)
        return np.asarray(-np.exp(-rate * (x + 1)))
    if shape in ("peak", "valley"):
        width = rng.uniform(0.3, 1.5)
        curve = -(np.abs((x - centre) / width) ** rng.choice([1.0, 2.0]))
        curve = np.where(x > centre, rng.uniform(0.3, 2) * curve, curve)  # steeper on one side
        curve = np.maximum(curve, -rng.uniform(1.5, 6))
        return np.asarray(curve if shape == "peak" else -curve)
    if shape == "cliff":
        return np.where(x > centre, -rng.uniform(1, 5), rng.uniform(-0.3, 0.6) * x)
    phases, rates = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.5, 3.5, 3)
    return np.asarray(np.sin(x[:, None] * rates + phases).sum(axis=1))


def unordered_effect(options: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """One random value for each option: all different, one bad, one good, or only two levels
    (options that are equivalent)."""
    kind = rng.choice(["normal", "one bad", "one good", "levels"], p=[0.5, 0.25, 0.1, 0.15])
    if kind == "normal":
        return rng.normal(size=options)
    if kind == "levels":
        return np.asarray(rng.normal(size=2)[rng.integers(0, 2, size=options)])
    values = rng.normal(scale=rng.uniform(0.05, 0.4), size=options)
    values[rng.integers(options)] += rng.uniform(1, 3) * (-1 if kind == "one bad" else 1)
    return values


def option_effects(shape: SpaceShape, rng: np.random.Generator) -> Effects:
    """Random effects of all options, with mean 0 and standard deviation 1 at each position.

    In half of the cases all positions of a group have the same effects: an operation is good or
    bad everywhere. Otherwise they are a random mixture of the group's effects and their own.
    """
    agreement = 1.0 if rng.random() < 0.5 else rng.uniform(0, 0.9)
    table = np.zeros((shape.positions, int(shape.cardinalities.max())))
    of_group: dict[int, NDArray[np.float64]] = {}
    for p, options in enumerate(shape.cardinalities):
        group = int(shape.groups[p])
        own = of_group.get(group)
        if own is None or agreement < 1:
            if shape.ordered[p]:
                own = ordered_effect(shape.places[p, :options], rng)
            else:
                own = unordered_effect(int(options), rng)
            own = (own - own.mean()) / (own.std() + 1e-9)
        of_group.setdefault(group, own)
        table[p, :options] = agreement * of_group[group] + (1 - agreement) * own
    return table


def importances(positions: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Random importance of each position, with mean square 1, from equal to dominated by a few.

    In a third of the cases some positions have almost no effect.
    """
    weights = rng.gamma(np.exp(rng.uniform(np.log(0.3), np.log(8))), size=positions)
    if rng.random() < 0.33:
        weights *= rng.random(positions) > rng.uniform(0.1, 0.6)
    weights = weights + 1e-3
    return np.asarray(weights / np.sqrt((weights**2).mean()))


def look_up(table: Effects, codes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The effect of each chosen option, shape [n, positions]."""
    chosen: NDArray[np.float64] = table[np.arange(codes.shape[1]), codes]
    return chosen
