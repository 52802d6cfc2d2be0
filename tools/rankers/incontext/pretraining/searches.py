"""Searches on random tasks, side by side: where pre-training's moments come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_searcher.spaces.landscapes.space_shape import SpaceShape, random_shape
from lm_searcher.spaces.landscapes.tasks import Task, random_task
from lm_searcher.spaces.ncode import Codes
from lm_searcher.tools.rankers.incontext.features import (
    Context,
    Inputs,
    digest,
    inputs,
    predicted,
)
from lm_searcher.tools.rankers.incontext.history import Trials
from lm_searcher.tools.rankers.incontext.options import Options


@dataclass(frozen=True)
class Episode:
    """A batch of moments: what the network reads, and how good each candidate truly is."""

    inputs: Inputs
    values: Tensor
    """[b, candidates]: noise-free, higher is better; failures stand below all others."""


def _guess(codes: Codes, scores: NDArray[np.float64], pool: Codes) -> NDArray[np.float64]:
    """An additive model's prediction of `pool`: the sum of each option's mean score."""
    total = np.zeros(len(pool))
    centred = scores - scores.mean()
    for p in range(codes.shape[1]):
        count = np.bincount(codes[:, p], minlength=256)
        total += (np.bincount(codes[:, p], centred, minlength=256) / (count + 1))[pool[:, p]]
    return total


def _mutants(
    layout: SpaceShape, parents: Codes, count: int, rng: np.random.Generator, edits: int = 2
) -> Codes:
    chosen = parents[rng.integers(0, len(parents), size=count)]
    return layout.mutate(chosen, rng.integers(1, edits + 1, size=count), rng)


def _searched(
    task: Task, trials: int, rng: np.random.Generator
) -> tuple[Codes, NDArray[np.float64]]:
    """Codes and noisy scores: uniform draws, then rounds of mutation and of guessing."""
    layout = task.shape
    share = rng.choice([rng.random(), 1.0], p=[0.8, 0.2])
    first = max(1, min(trials, round(trials * share)))
    codes = layout.sample(first, rng)
    scores = _measure(task, codes, rng)[0]
    rounds = np.sort(rng.integers(0, trials - first + 1, size=rng.integers(0, 5)))
    for count in np.diff([0, *rounds, trials - first]):
        elites = codes[np.argsort(-scores)[: rng.integers(1, 11)]]
        if rng.random() < 0.3:
            pool = np.concatenate(
                [layout.sample(3 * count, rng), _mutants(layout, elites, 3 * count, rng)]
            )
            more = pool[np.argsort(-_guess(codes, scores, pool), kind="stable")[:count]]
        else:
            more = _mutants(layout, elites, count, rng, int(rng.choice([1, 2, 3])))
        codes = np.concatenate([codes, more])
        scores = np.concatenate([scores, _measure(task, more, rng)[0]])
    return codes, scores


def _measure(
    task: Task, codes: Codes, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    noise = rng.normal(scale=task.noise + 1e-12, size=len(codes))
    return task.landscape(codes) + noise, task.fails(codes, rng)


def _truth(task: Task, codes: Codes) -> NDArray[np.float64]:
    """Noise-free values; architectures that fail stand below all others."""
    values = task.landscape(codes)
    if task.failure is None:
        return values
    return values - (task.failure(codes) > 0) * (0.5 * float(np.ptp(values)) + 1e-9)


def _padded(arrays: Sequence[Codes], width: int) -> Tensor:
    return torch.as_tensor(np.stack([np.pad(a, ((0, 0), (0, width - a.shape[1]))) for a in arrays]))


@dataclass(frozen=True)
class Offer:
    """Candidates for each of a batch of searches."""

    context: Context
    pool: list[Codes]
    member: Tensor
    mean: Tensor
    sd: Tensor
    """The surrogates' prediction, [b, candidates]."""


class Searches:
    """A batch of searches on random tasks that go on side by side.

    They begin with `trials` trials each, some of them pending. `advance` lets the surrogates
    choose further ones, so that histories look like those of a good search.
    """

    def __init__(self, rng: np.random.Generator, batch: int, trials: int, **limits: int) -> None:
        self.rng = rng
        self.tasks = [random_task(rng, random_shape(rng, **limits)) for _ in range(batch)]
        self.options = Options.of([task.shape for task in self.tasks])
        self.codes: list[Codes] = []
        self.scores: list[NDArray[np.float64]] = []
        self.failed: list[NDArray[np.bool_]] = []
        for task in self.tasks:
            codes, scores = _searched(task, trials, rng)
            self.codes.append(codes)
            self.scores.append(scores)
            self.failed.append(task.fails(codes, rng))
        self.courage = rng.choice([0.0, 0.3, 1.0, 1.5], size=(batch, 1))

    @property
    def trials(self) -> int:
        """How many trials each has had."""
        return len(self.scores[0])

    def context(self) -> Context:
        """The histories, digested; in an eighth of them the last trials are still pending."""
        trials = self.trials
        last = [
            int(self.rng.integers(1, min(trials // 3, 12) + 1))
            if trials > 4 and self.rng.random() < 0.12
            else 0
            for _ in self.tasks
        ]
        pending = torch.arange(trials) >= trials - torch.tensor(last)[:, None]
        failed = torch.as_tensor(np.stack(self.failed)) & ~pending
        scores = torch.as_tensor(np.stack(self.scores), dtype=torch.float32)
        member = self.member(self.codes)
        return digest(self.options, Trials(member, scores, failed.float(), pending.float()))

    def member(self, codes: Sequence[Codes]) -> Tensor:
        """Options.member of equally many architectures for each search."""
        return self.options.member(_padded(codes, self.options.offsets.shape[1]))

    def pool(self, size: int, mutant_share: float) -> list[Codes]:
        """Candidates for each: uniform draws, and mutants of the ten best."""
        mutants = round(mutant_share * size)
        pools = []
        for task, codes, scores, failed in zip(
            self.tasks, self.codes, self.scores, self.failed, strict=True
        ):
            elites = codes[np.argsort(-np.where(failed, -np.inf, scores))[:10]]
            pools.append(
                np.concatenate(
                    [
                        task.shape.sample(size - mutants, self.rng),
                        _mutants(task.shape, elites, mutants, self.rng),
                    ]
                )
            )
        return pools

    def offer(self, size: int, mutant_share: float) -> Offer:
        """A pool for each search, with what the surrogates think of it."""
        context = self.context()
        pool = self.pool(size, mutant_share)
        member = self.member(pool)
        mean, sd = predicted(context, member)
        return Offer(context, pool, member, mean, sd)

    def advance(self, offer: Offer, count: int) -> None:
        """`count` further trials each: what the surrogates find most promising."""
        draw = offer.mean + offer.sd * self._normal(offer.mean, self.courage)
        chosen = draw.topk(count, dim=1).indices.numpy()
        for i, task in enumerate(self.tasks):
            codes = offer.pool[i][chosen[i]]
            scores, failed = _measure(task, codes, self.rng)
            self.codes[i] = np.concatenate([self.codes[i], codes])
            self.scores[i] = np.concatenate([self.scores[i], scores])
            self.failed[i] = np.concatenate([self.failed[i], failed])

    def episode(self, offer: Offer, kept: int) -> Episode:
        """The choice among `kept` of the pool: those that the surrogates think promising, by a
        draw from their posterior, and a few others; all of it where it is no larger."""
        pairs = zip(self.tasks, offer.pool, strict=True)
        values = np.stack([_truth(task, pool) for task, pool in pairs])
        truth, member = torch.as_tensor(values, dtype=torch.float32), offer.member
        if kept < member.shape[1]:
            draw = offer.mean + offer.sd * self._normal(offer.mean, 1.0)
            lucky = torch.as_tensor(self.rng.random(draw.shape) < 0.15)
            best = torch.where(lucky, draw + 10, draw).topk(kept, dim=1).indices
            member = member.gather(1, best[..., None].expand(-1, -1, member.shape[2]))
            truth = truth.gather(1, best)
        return Episode(inputs(offer.context, member), truth)

    def _normal(self, like: Tensor, scale: NDArray[np.float64] | float) -> Tensor:
        return torch.as_tensor(scale * self.rng.normal(size=like.shape), dtype=like.dtype)
