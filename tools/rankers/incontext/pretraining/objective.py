"""The loss of pre-training, and the regret on held-out tasks."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn

from lm_searcher.tools.rankers.incontext.features import NetworkInputs
from lm_searcher.tools.rankers.incontext.model import InContextModel
from lm_searcher.tools.rankers.incontext.pretraining.episodes import random_limits
from lm_searcher.tools.rankers.incontext.pretraining.searches import Episode, Searches


def move(x: NetworkInputs, device: str) -> NetworkInputs:
    """Copy the inputs to a device."""
    fields = {f.name: getattr(x, f.name).to(device) for f in dataclasses.fields(x)}
    return NetworkInputs(**fields)


def listwise_loss(scores: Tensor, values: Tensor) -> Tensor:
    """The mean of two listwise cross-entropies.

    The target of the best head (scores [..., 0]) is the best candidate; that of the value head
    (scores [..., 1]) is softmax(4 z), where z are the z-scores of the true values. `scores` is
    [b, candidates, 2], `values` [b, candidates].
    """
    logs = torch.log_softmax(scores.float(), dim=1)
    # Equally good best candidates share the probability.
    top = (values == values.max(1, keepdim=True).values).float()
    best_loss = -(top / top.sum(1, keepdim=True) * logs[..., 0]).sum(1).mean()
    best, middle = values.max(1, keepdim=True).values, values.median(1, keepdim=True).values
    values = torch.maximum(
        values, 3 * middle - 2 * best
    )  # so that a long lower tail does not hide the top
    z = (values - values.mean(1, keepdim=True)) / (values.std(1, keepdim=True) + 1e-9)
    value_loss = -(torch.softmax(4 * z, dim=1) * logs[..., 1]).sum(1).mean()
    return (best_loss + value_loss) / 2


def pick_regret(scores: Tensor, values: Tensor) -> Tensor:
    """(best - picked) / (best - median) of each task, [b]; 0 if all values are equal."""
    best = values.max(1).values
    picked = values.gather(1, scores.argmax(1, keepdim=True))[:, 0]
    span = best - values.median(1).values
    return torch.where(span > 1e-9, (best - picked) / span.clamp(min=1e-9), torch.zeros_like(best))


@torch.no_grad()
def held_out(tasks: int) -> dict[int, list[Episode]]:
    """The fixed validation set: `tasks` episodes after each of 10, 25, 50 and 100 trials."""
    sets: dict[int, list[Episode]] = {}
    for trials in (10, 25, 50, 100):
        rng = np.random.default_rng([987_654_321, trials])
        sets[trials] = []
        for _ in range(tasks // 16):
            search = Searches(rng, 16, max(5, trials // 2), **random_limits(rng))
            while search.trials < trials:
                more = min(trials - search.trials, 1 + search.trials // 5)
                search.advance(search.candidate_pools(256, 0.5), more)
            sets[trials].append(search.episode(search.candidate_pools(256, 0.5), 256))
    return sets


@torch.no_grad()
def validate(
    model: InContextModel, sets: dict[int, list[Episode]], device: str
) -> dict[str, float]:
    """Mean pick regret after each number of trials, and over all ("all").

    Keys such as "10" are of the best head, keys such as "value 10" of the value head.
    """
    nn.Module.eval(model)
    result = {}
    for head, name in enumerate(("", "value ")):
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
