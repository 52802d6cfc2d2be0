"""Simulated searches on random tasks, side by side: the source of pre-training episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_searcher.spaces.landscapes.space_shape import random_shape
from lm_searcher.spaces.landscapes.tasks import random_task
from lm_searcher.spaces.ncode import Codes
from lm_searcher.tools.rankers.incontext.features import (
    HistoryContext,
    NetworkInputs,
    digest,
    network_inputs,
    predict,
)
from lm_searcher.tools.rankers.incontext.history import Trials
from lm_searcher.tools.rankers.incontext.options import OptionTensors
from lm_searcher.tools.rankers.incontext.pretraining.simulated_trials import (
    mutants,
    noisy_scores,
    simulated_trials,
    true_values,
)


@dataclass(frozen=True)
class Episode:
    """One step of each of b searches: the network's inputs, and the candidates' true values."""

    inputs: NetworkInputs
    values: Tensor
    """[b, candidates]: noise-free, higher is better; failures are below all others."""


@dataclass(frozen=True)
class CandidatePools:
    """A pool of candidates for each of b searches, with the surrogates' predictions."""

    context: HistoryContext
    pool: list[Codes]
    member: Tensor
    """[b, candidates, options] from OptionTensors.member."""
    mean: Tensor
    """[b, candidates]: the predicted normal scores."""
    sd: Tensor
    """[b, candidates]: their standard deviations."""


class Searches:
    """A batch of simulated searches on random tasks.

    Each begins with `trials` trials. `advance` adds trials that the surrogates select, so that
    the histories resemble those of a good search. `limits` are those of `random_shape`.
    """

    def __init__(self, rng: np.random.Generator, batch: int, trials: int, **limits: int) -> None:
        self.rng = rng
        self.tasks = [random_task(rng, random_shape(rng, **limits)) for _ in range(batch)]
        self.options = OptionTensors.of([task.shape for task in self.tasks])
        self.codes: list[Codes] = []
        self.scores: list[NDArray[np.float64]] = []
        self.failed: list[NDArray[np.bool_]] = []
        for task in self.tasks:
            codes, scores = simulated_trials(task, trials, rng)
            self.codes.append(codes)
            self.scores.append(scores)
            self.failed.append(task.fails(codes, rng))
        self.exploration = rng.choice([0.0, 0.3, 1.0, 1.5], size=(batch, 1))

    @property
    def trials(self) -> int:
        """The number of trials of each search."""
        return len(self.scores[0])

    def context(self) -> HistoryContext:
        """The digested histories; in an eighth of them the last trials are pending."""
        trials = self.trials
        last = [
            int(self.rng.integers(1, min(trials // 3, 12) + 1))
            if trials > 4 and self.rng.random() < 0.12
            else 0
            for _ in self.tasks
        ]
        pending = torch.arange(trials) >= trials - torch.tensor(last)[:, None]  # [b, t]
        failed = torch.as_tensor(np.stack(self.failed)) & ~pending
        scores = torch.as_tensor(np.stack(self.scores), dtype=torch.float32)
        member = self.member(self.codes)
        return digest(self.options, Trials(member, scores, failed.float(), pending.float()))

    def member(self, codes: Sequence[Codes]) -> Tensor:
        """OptionTensors.member of equally many architectures for each search."""
        return self.options.member(_padded(codes, self.options.offsets.shape[1]))

    def pool(self, size: int, mutant_share: float) -> list[Codes]:
        """`size` candidates for each search: uniform draws, and mutants of the ten best trials."""
        mutated = round(mutant_share * size)
        pools = []
        for task, codes, scores, failed in zip(
            self.tasks, self.codes, self.scores, self.failed, strict=True
        ):
            elites = codes[np.argsort(-np.where(failed, -np.inf, scores))[:10]]
            uniform = task.shape.sample(size - mutated, self.rng)
            pools.append(np.concatenate([uniform, mutants(task.shape, elites, mutated, self.rng)]))
        return pools

    def candidate_pools(self, size: int, mutant_share: float) -> CandidatePools:
        """A pool for each search, with the surrogates' predictions."""
        context = self.context()
        pool = self.pool(size, mutant_share)
        member = self.member(pool)
        mean, sd = predict(context, member)
        return CandidatePools(context, pool, member, mean, sd)

    def advance(self, pools: CandidatePools, count: int) -> None:
        """Add `count` trials to each search: the best of a random draw from the surrogates."""
        draw = pools.mean + pools.sd * self._normal(pools.mean, self.exploration)
        chosen = draw.topk(count, dim=1).indices.numpy()
        for i, task in enumerate(self.tasks):
            codes = pools.pool[i][chosen[i]]
            scores, failed = noisy_scores(task, codes, self.rng)
            self.codes[i] = np.concatenate([self.codes[i], codes])
            self.scores[i] = np.concatenate([self.scores[i], scores])
            self.failed[i] = np.concatenate([self.failed[i], failed])

    def episode(self, pools: CandidatePools, candidates: int) -> Episode:
        """The choice among `candidates` of each pool, or among all if the pool is no larger.

        A draw from the surrogates' posterior selects them; about 15 % are selected at random.
        """
        pairs = zip(self.tasks, pools.pool, strict=True)
        values = np.stack([true_values(task, pool) for task, pool in pairs])
        truth, member = torch.as_tensor(values, dtype=torch.float32), pools.member
        if candidates < member.shape[1]:
            draw = pools.mean + pools.sd * self._normal(pools.mean, 1.0)
            lucky = torch.as_tensor(self.rng.random(draw.shape) < 0.15)
            # 10 is above all normal scores, so that the lucky candidates come first.
            best = torch.where(lucky, draw + 10, draw).topk(candidates, dim=1).indices
            member = member.gather(1, best[..., None].expand(-1, -1, member.shape[2]))
            truth = truth.gather(1, best)
        return Episode(network_inputs(pools.context, member), truth)

    def _normal(self, like: Tensor, scale: NDArray[np.float64] | float) -> Tensor:
        return torch.as_tensor(scale * self.rng.normal(size=like.shape), dtype=like.dtype)


def _padded(arrays: Sequence[Codes], width: int) -> Tensor:
    """[b, n, width]: the codes of each search, with zeros for the positions that it lacks."""
    return torch.as_tensor(np.stack([np.pad(a, ((0, 0), (0, width - a.shape[1]))) for a in arrays]))
