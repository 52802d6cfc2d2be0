"""What pre-training minimises, and what it is judged by."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn

from lm_searcher.tools.rankers.incontext.features import Inputs
from lm_searcher.tools.rankers.incontext.model import InContextModel
from lm_searcher.tools.rankers.incontext.pretraining.episodes import random_limits
from lm_searcher.tools.rankers.incontext.pretraining.searches import Episode, Searches


def move(x: Inputs, device: str) -> Inputs:
    """The inputs on a device."""
    fields = {f.name: getattr(x, f.name).to(device) for f in dataclasses.fields(x)}
    return Inputs(**fields)


def listwise_loss(scores: Tensor, values: Tensor) -> Tensor:
    """The mean of two cross-entropies: of chance [..., 0] to the best candidate, and of worth
    [..., 1] to softmax(4 z) of the true values. Scores [b, candidates, 2], values [b, candidates].
    """
    logs = torch.log_softmax(scores.float(), dim=1)
    top = (values == values.max(1, keepdim=True).values).float()
    chance = -(top / top.sum(1, keepdim=True) * logs[..., 0]).sum(1).mean()
    best, middle = values.max(1, keepdim=True).values, values.median(1, keepdim=True).values
    values = torch.maximum(values, 3 * middle - 2 * best)  # a long tail must not hide the top
    z = (values - values.mean(1, keepdim=True)) / (values.std(1, keepdim=True) + 1e-9)
    worth = -(torch.softmax(4 * z, dim=1) * logs[..., 1]).sum(1).mean()
    return (chance + worth) / 2


def pick_regret(scores: Tensor, values: Tensor) -> Tensor:
    """(best - picked) / (best - median), each task's, [b]; 0 where all are equal."""
    best = values.max(1).values
    picked = values.gather(1, scores.argmax(1, keepdim=True))[:, 0]
    span = best - values.median(1).values
    return torch.where(span > 1e-9, (best - picked) / span.clamp(min=1e-9), torch.zeros_like(best))


@torch.no_grad()
def held_out(tasks: int) -> dict[int, list[Episode]]:
    """The fixed validation set: `tasks` after each of 10, 25, 50 and 100 trials."""
    sets: dict[int, list[Episode]] = {}
    for trials in (10, 25, 50, 100):
        rng = np.random.default_rng([987_654_321, trials])
        sets[trials] = []
        for _ in range(tasks // 16):
            search = Searches(rng, 16, max(5, trials // 2), **random_limits(rng))
            while search.trials < trials:
                more = min(trials - search.trials, 1 + search.trials // 5)
                search.advance(search.offer(256, 0.5), more)
            sets[trials].append(search.episode(search.offer(256, 0.5), 256))
    return sets


@torch.no_grad()
def validate(
    model: InContextModel, sets: dict[int, list[Episode]], device: str
) -> dict[str, float]:
    """Mean pick regret after each number of trials, and over all."""
    nn.Module.eval(model)
    result = {}
    for head, name in enumerate(("", "worth ")):
        means = []
        for trials, episodes in sets.items():
            scores = [model(move(e.inputs, device))[..., head].cpu() for e in episodes]
            pairs = zip(scores, episodes, strict=True)
            regrets = [pick_regret(s, e.values).clamp(max=2) for s, e in pairs]
            means.append(float(torch.cat(regrets).mean()))
            result[f"{name}{trials}"] = round(means[-1], 4)
        result[f"{name}all"] = round(sum(means) / len(means), 4)
    model.train()
    return result
