"""Pre-training data: moments of searches on random tasks, made up as they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from lm_searcher.spaces.layout import Layout
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.tasks import Task, random_task
from lm_searcher.tools.rankers.incontext.features import (
    Inputs,
    Trials,
    digest,
    inputs,
    predicted,
)
from lm_searcher.tools.rankers.incontext.options import Options

LIMITS = (
    ({"max_positions": 20, "max_options": 8}, 0.8),
    ({"max_positions": 10, "max_options": 20}, 0.08),
    ({"max_positions": 5, "max_options": 36}, 0.02),
    ({"min_positions": 20, "max_positions": 64, "max_options": 5}, 0.1),
)
"""Sizes of space and how often each is drawn; one size a batch, so that little is padding."""


@dataclass(frozen=True)
class Episode:
    """A batch of moments: what the network reads, and how good each candidate truly is."""

    inputs: Inputs
    values: Tensor
    """[b, candidates]: noise-free, higher is better; failures stand below all others."""


@dataclass(frozen=True)
class _Moment:
    layout: Layout
    codes: Codes
    scores: NDArray[np.float64]
    failed: NDArray[np.bool_]
    pending: NDArray[np.bool_]
    pool: Codes
    values: NDArray[np.float64]


def _guess(codes: Codes, scores: NDArray[np.float64], pool: Codes) -> NDArray[np.float64]:
    """An additive model's prediction of `pool`: the sum of each option's mean score."""
    total = np.zeros(len(pool))
    centred = scores - scores.mean()
    for p in range(codes.shape[1]):
        count = np.bincount(codes[:, p], minlength=256)
        total += (np.bincount(codes[:, p], centred, minlength=256) / (count + 1))[pool[:, p]]
    return total


def _mutants(
    layout: Layout, parents: Codes, count: int, rng: np.random.Generator, edits: int = 2
) -> Codes:
    chosen = parents[rng.integers(0, len(parents), size=count)]
    return layout.mutate(chosen, rng.integers(1, edits + 1, size=count), rng)


def _searched(
    task: Task, trials: int, rng: np.random.Generator
) -> tuple[Codes, NDArray[np.float64]]:
    """Codes and noisy scores of a search: uniform draws, then rounds of mutation and of guessing."""

    def measure(codes: Codes) -> NDArray[np.float64]:
        return task.landscape(codes) + rng.normal(scale=task.noise + 1e-12, size=len(codes))

    layout = task.layout
    share = rng.choice([rng.random(), 1.0], p=[0.8, 0.2])
    first = max(1, min(trials, round(trials * share)))
    codes = layout.sample(first, rng)
    scores = measure(codes)
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
        scores = np.concatenate([scores, measure(more)])
    return codes, scores


def _moment(
    trials: int, pool_size: int, mutant_share: float, rng: np.random.Generator, **limits: int
) -> _Moment:
    task = random_task(rng, **limits)
    layout = task.layout
    codes, scores = _searched(task, trials, rng)
    failed = task.fails(codes, rng)
    pending = np.zeros(trials, bool)
    if trials > 4 and rng.random() < 0.12:
        pending[-int(rng.integers(1, min(trials // 3, 12) + 1)) :] = True
    failed &= ~pending
    order = np.argsort(-np.where(failed | pending, -np.inf, scores))
    mutants = int(round(mutant_share * pool_size))
    pool = np.concatenate(
        [
            layout.sample(pool_size - mutants, rng),
            _mutants(layout, codes[order[:10]], mutants, rng),
        ]
    )
    values = task.landscape(pool)
    if task.failure is not None:
        spread = float(np.ptp(values)) + 1e-9
        values = values - 0.5 * spread * (task.failure(pool) > 0)
    return _Moment(layout, codes, scores, failed, pending, pool, values)


def _stack(moments: list[_Moment], field: str, width: int = 0) -> Tensor:
    arrays = [getattr(m, field) for m in moments]
    if width:
        arrays = [np.pad(a, ((0, 0), (0, width - a.shape[1]))) for a in arrays]
    return torch.as_tensor(np.stack(arrays).astype(np.uint8 if width else np.float32))


@torch.no_grad()
def make_episode(
    rng: np.random.Generator,
    batch: int,
    trials: int,
    candidates: int,
    *,
    mutant_share: float = 0.5,
    drawn: int = 0,
    **limits: int,
) -> Episode:
    """A batch of moments after `trials` trials each.

    With `drawn` above `candidates`, so many are drawn and those kept that simple surrogates
    think promising (by a draw from their posterior): the hard choices of a real search.
    """
    size = max(drawn, candidates)
    moments = [_moment(trials, size, mutant_share, rng, **limits) for _ in range(batch)]
    options = Options.of([m.layout for m in moments])
    width = options.offsets.shape[1]
    member = options.member(_stack(moments, "codes", width))
    past = Trials(
        member, _stack(moments, "scores"), _stack(moments, "failed"), _stack(moments, "pending")
    )
    context = digest(options, past)
    pool, values = options.member(_stack(moments, "pool", width)), _stack(moments, "values")
    if size > candidates:
        mean, sd = predicted(context, pool)
        draw = mean + sd * torch.as_tensor(rng.normal(size=mean.shape), dtype=mean.dtype)
        lucky = torch.as_tensor(rng.random(mean.shape) < 0.15)
        kept = torch.where(lucky, draw + 10, draw).topk(candidates, dim=1).indices
        pool = pool.gather(1, kept[..., None].expand(-1, -1, pool.shape[2]))
        values = values.gather(1, kept)
    return Episode(inputs(context, pool), values)


class Episodes(IterableDataset[Episode]):
    """An endless stream of training batches of about `tokens` trials and candidates each."""

    def __init__(self, seed: int, tokens: int, candidates: int = 64, max_trials: int = 200) -> None:
        super().__init__()
        self.seed, self.tokens = seed, tokens
        self.candidates, self.max_trials = candidates, max_trials

    def __iter__(self) -> Iterator[Episode]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        torch.set_num_threads(1)
        odds = [share for _, share in LIMITS]
        while True:
            limits = LIMITS[rng.choice(len(LIMITS), p=odds)][0]
            trials = int(np.exp(rng.uniform(np.log(3), np.log(self.max_trials + 1))))
            batch = max(4, self.tokens // (trials + self.candidates))
            drawn = 3 * self.candidates if rng.random() < 0.6 else 0
            share = float(rng.choice([0.0, 0.5, rng.random()]))
            yield make_episode(
                rng, batch, trials, self.candidates, mutant_share=share, drawn=drawn, **limits
            )
