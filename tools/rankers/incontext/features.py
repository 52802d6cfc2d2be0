"""From a history and candidates to what the network reads.

Every feature is a function of which options agree, never of how positions and options are
numbered; reversing the order of an ordered position changes nothing either. Scores enter by
rank and by size, so that a monotone change of the objective changes little.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lm_searcher.tools.rankers.incontext.history import Trials, option_statistics, targets_of
from lm_searcher.tools.rankers.incontext.kernels import (
    KERNELS,
    Posterior,
    Processes,
    Similarity,
)
from lm_searcher.tools.rankers.incontext.options import Options

PREDICTION_FEATURES = 3 * KERNELS + 6
TRIAL_FEATURES = PREDICTION_FEATURES + 8
CANDIDATE_FEATURES = PREDICTION_FEATURES + 3
GLOBAL_FEATURES = 2 * KERNELS + KERNELS + 10


@dataclass(frozen=True)
class Context:
    """A history, digested: what candidates are held against."""

    options: Options
    trials: Trials
    weight: Tensor
    """[b, m]: what each option's position seems to matter, of mean 1 over positions."""
    processes: Processes
    targets: Tensor
    """[b, t, 3]: normal score, z-score, whether it failed."""
    best: Tensor
    """[b, t]: 1 for the incumbent."""
    option_features: Tensor
    trial_features: Tensor
    global_features: Tensor
    relations: Tensor
    """[b, relations, t, t]."""


@dataclass(frozen=True)
class Inputs:
    """What the network reads; see the shapes there."""

    trial_member: Tensor
    option_features: Tensor
    trial_features: Tensor
    global_features: Tensor
    trial_relations: Tensor
    near: Tensor
    same: Tensor
    positions: Tensor
    member: Tensor
    candidate_features: Tensor
    relations: Tensor


def _mixture(post: Posterior, belief: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of both scores and spread over all processes, weighted by belief; each [b, n]."""
    share = belief[:, :, None]
    mean = (post.mean[..., 0] * share).sum(1)
    second = ((post.sd**2 + post.mean[..., 0] ** 2) * share).sum(1)
    return mean, (post.mean[..., 1] * share).sum(1), (second - mean**2).clamp(min=1e-4).sqrt()


def _predictions(context_best: Tensor, post: Posterior, belief: Tensor) -> Tensor:
    """[b, n, PREDICTION_FEATURES]; `context_best` [b] is the incumbent's normal score."""
    mean, z, sd = _mixture(post, belief)
    excess = (mean - context_best[:, None]) / sd
    better = torch.special.log_ndtr(excess.clamp(min=-8)) / 3
    mixed = torch.stack([mean, z, sd.log(), mean + sd, better, excess / 3], dim=2)
    each = [post.mean[..., 0], post.mean[..., 1], post.sd.log()]
    return torch.cat([mixed, *(x.transpose(1, 2) for x in each)], dim=2)


def digest(options: Options, trials: Trials) -> Context:
    """All that does not depend on the candidates."""
    targets, rank = targets_of(trials)
    finished = 1 - trials.pending
    scored = finished * (1 - trials.failed)
    y = targets[..., 0]
    masked = torch.where(scored > 0, y, y.new_tensor(-9.0))
    best = (masked == masked.max(1, keepdim=True).values).to(y.dtype) * scored
    best = best / best.sum(1, keepdim=True).clamp(min=1)
    features, weight = option_statistics(options, trials, targets, best)
    alike = Similarity.of(options, trials.member, trials.member, weight)
    processes = Processes.fit(alike.kernels(), targets, finished)
    post = processes.trials()
    belief = processes.belief
    top = (best * y).sum(1)
    mixed = _mixture(post, belief)[0]
    own = torch.stack(
        [y, targets[..., 1], rank, trials.failed, trials.pending, best, scored, y - mixed], dim=2
    )
    own[..., -1] *= finished
    count = trials.scores.new_full((len(y),), y.shape[1]).clamp(min=1)
    several = (options.same.sum(2) > 1).to(y.dtype) * options.valid
    skewed = ((targets[..., 1] ** 3) * scored).sum(1) / count
    overall = torch.stack(
        [
            count.log() / 5,
            scored.sum(1).add(1).log() / 5,
            trials.failed.sum(1) / count,
            trials.pending.sum(1) / count,
            options.positions.log() / 3,
            options.valid.sum(1).log() / 5,
            (options.ordered.sum(1) / options.valid.sum(1)),
            several.sum(1) / options.valid.sum(1),
            skewed.clamp(-5, 5) / 3,
            top,
        ],
        dim=1,
    )
    skill = processes.skill[..., :2].flatten(1)
    return Context(
        options,
        trials,
        weight,
        processes,
        targets,
        best,
        features,
        torch.cat([_predictions(top, post, belief), own], dim=2),
        torch.cat([overall, skill, belief], dim=1),
        alike.relations(options.positions),
    )


def predicted(context: Context, member: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread of candidates' normal scores by the simple surrogates alone, [b, n]."""
    alike = Similarity.of(context.options, member, context.trials.member, context.weight)
    post = context.processes.predict(alike.kernels())
    mean, _, sd = _mixture(post, context.processes.belief)
    return mean, sd


def inputs(context: Context, member: Tensor) -> Inputs:
    """What the network reads for candidates `member` [b, n, m]."""
    trials, options = context.trials, context.options
    alike = Similarity.of(options, member, trials.member, context.weight)
    post = context.processes.predict(alike.kernels())
    top = (context.best * context.targets[..., 0]).sum(1)
    belief = context.processes.belief
    failing = (post.mean[..., 2] * belief[:, :, None]).sum(1)
    nearest = alike.uniform.max(2).values
    to_best = (alike.uniform * context.best[:, None]).sum(2)
    own = torch.stack([failing, nearest, to_best], dim=2)
    return Inputs(
        trials.member,
        context.option_features,
        context.trial_features,
        context.global_features,
        context.relations,
        options.near,
        options.same,
        options.positions,
        member,
        torch.cat([_predictions(top, post, belief), own], dim=2),
        alike.relations(options.positions),
    )
