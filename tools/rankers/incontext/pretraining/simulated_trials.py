"""Simulated trials on a random task: the histories that pre-training starts from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.landscapes.space_shape import SpaceShape
from lm_searcher.spaces.landscapes.tasks import Task
from lm_searcher.spaces.ncode import Codes


def simulated_trials(
    task: Task, trials: int, rng: np.random.Generator
) -> tuple[Codes, NDArray[np.float64]]:
    """Codes [trials, positions] and noisy scores [trials] of a simple search.

    The search begins with uniform draws, followed by up to five rounds that mutate the best
    trials or select candidates by an additive model.
    """
    shape = task.shape
    share = rng.choice([rng.random(), 1.0], p=[0.8, 0.2])
    first = max(1, min(trials, round(trials * share)))
    codes = shape.sample(first, rng)
    scores = noisy_scores(task, codes, rng)[0]
    rounds = np.sort(rng.integers(0, trials - first + 1, size=rng.integers(0, 5)))
    for count in np.diff([0, *rounds, trials - first]):
        elites = codes[np.argsort(-scores)[: rng.integers(1, 11)]]
        if rng.random() < 0.3:
            pool = np.concatenate(
                [shape.sample(3 * count, rng), mutants(shape, elites, 3 * count, rng)]
            )
            predicted = _additive_prediction(codes, scores, pool)
            more = pool[np.argsort(-predicted, kind="stable")[:count]]
        else:
            more = mutants(shape, elites, count, rng, int(rng.choice([1, 2, 3])))
        codes = np.concatenate([codes, more])
        scores = np.concatenate([scores, noisy_scores(task, more, rng)[0]])
    return codes, scores


def mutants(
    shape: SpaceShape, parents: Codes, count: int, rng: np.random.Generator, edits: int = 2
) -> Codes:
    """`count` mutants of random parents, each with 1 to `edits` positions changed."""
    chosen = parents[rng.integers(0, len(parents), size=count)]
    return shape.mutate(chosen, rng.integers(1, edits + 1, size=count), rng)


def noisy_scores(
    task: Task, codes: Codes, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """One noisy evaluation of each architecture: its score, and whether it fails."""
    noise = rng.normal(scale=task.noise + 1e-12, size=len(codes))
    return task.landscape(codes) + noise, task.fails(codes, rng)


def true_values(task: Task, codes: Codes) -> NDArray[np.float64]:
    """Noise-free values; architectures that fail are below all others."""
    values = task.landscape(codes)
    if task.failure is None:
        return values
    return values - (task.failure(codes) > 0) * (0.5 * float(np.ptp(values)) + 1e-9)


def _additive_prediction(
    codes: Codes, scores: NDArray[np.float64], pool: Codes
) -> NDArray[np.float64]:
    """An additive model's prediction of `pool`: the sum of each option's mean score."""
    total = np.zeros(len(pool))
    centred = scores - scores.mean()
    for p in range(codes.shape[1]):
        count = np.bincount(codes[:, p], minlength=256)
        total += (np.bincount(codes[:, p], centred, minlength=256) / (count + 1))[pool[:, p]]
    return total
