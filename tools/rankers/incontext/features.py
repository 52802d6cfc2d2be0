"""From a history and candidates to what the network reads.

Every feature is a function of which options agree, never of how positions and options are
numbered; reversing the order of an ordered position changes nothing either. Scores enter by
rank and by size, so that a monotone change of the objective changes little.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lm_searcher.tools.rankers.incontext.kernels import (
    KERNELS,
    Posterior,
    Processes,
    Similarity,
)
from lm_searcher.tools.rankers.incontext.options import Options

OPTION_FEATURES = 22
PREDICTION_FEATURES = 3 * KERNELS + 6
TRIAL_FEATURES = PREDICTION_FEATURES + 8
CANDIDATE_FEATURES = PREDICTION_FEATURES + 3
GLOBAL_FEATURES = 2 * KERNELS + KERNELS + 10


@dataclass(frozen=True)
class Trials:
    """Histories of equal length: b of them with t trials each."""

    member: Tensor
    """[b, t, m] from Options.member."""
    scores: Tensor
    """[b, t], anything where there is none."""
    failed: Tensor
    """[b, t] float."""
    pending: Tensor
    """[b, t] float."""


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


def _targets(trials: Trials) -> tuple[Tensor, Tensor]:
    """(targets [b, t, 3], rank in [-1, 1] [b, t]); failed trials stand just below the worst."""
    scored = (1 - trials.failed) * (1 - trials.pending)
    count = scored.sum(1, keepdim=True).clamp(min=1)
    s = torch.where(scored > 0, trials.scores, torch.zeros_like(trials.scores))
    below = (s[:, None, :] < s[:, :, None]).to(s.dtype) @ scored[..., None]
    equal = (s[:, None, :] == s[:, :, None]).to(s.dtype) @ scored[..., None]
    share = ((below + 0.5 * equal)[..., 0] / count).clamp(1e-3, 1 - 1e-3)
    normal = torch.special.ndtri(share) * scored
    mean = s.sum(1, keepdim=True) / count
    spread = (((s - mean) ** 2 * scored).sum(1, keepdim=True) / count).sqrt()
    z = ((s - mean) / (spread + 1e-9)).clamp(-4, 4) * scored

    def unit(y: Tensor) -> Tensor:
        mean = (y * scored).sum(1, keepdim=True) / count
        spread = (((y - mean) ** 2 * scored).sum(1, keepdim=True) / count).sqrt()
        y = (y - mean) / (spread + 1e-3) * scored
        worst = torch.where(scored > 0, y, torch.zeros_like(y)).min(1, keepdim=True).values
        return torch.where(trials.failed > 0, worst.clamp(max=-0.5) - 0.2, y)

    targets = torch.stack([unit(normal), unit(z), trials.failed], dim=2)
    return targets, (2 * share - 1) * scored


def _option_statistics(
    options: Options, trials: Trials, targets: Tensor, best: Tensor
) -> tuple[Tensor, Tensor]:
    """(features [b, m, OPTION_FEATURES], weight [b, m])."""
    done = 1 - trials.pending
    across = trials.member.transpose(1, 2)  # [b, m, t]
    live = across * done[:, None]
    count = live.sum(2)
    total = done.sum(1)[:, None].clamp(min=1)
    y, z = targets[..., 0] * done, targets[..., 1] * done
    sum_y, sum_z = (live @ y[..., None])[..., 0], (live @ z[..., None])[..., 0]
    mean_y, mean_z = sum_y / (count + 1), sum_z / (count + 1)
    square = (live @ (y**2)[..., None])[..., 0]
    deviation = ((square - sum_y**2 / count.clamp(min=1)) / count.clamp(min=1)).clamp(min=0).sqrt()
    best_y = torch.where(live > 0, y[:, None], y.new_tensor(-3.0)).max(2).values
    top = (y > 0.8).to(y.dtype)
    top_share = (live @ top[..., None])[..., 0] / (top.sum(1)[:, None] + 1)
    soft_count = (options.near @ count[..., None])[..., 0]
    soft_mean = (options.near @ sum_y[..., None])[..., 0] / (soft_count + 0.7)
    kin = options.same - torch.eye(options.same.shape[1], device=y.device)
    kin_count = (kin @ count[..., None])[..., 0]
    kin_mean = (kin @ sum_y[..., None])[..., 0] / (kin_count + 2)
    between = (options.together @ (count * mean_y**2)[..., None])[..., 0] / total
    strength = (between - 0.5 * (options.size - 1) / total).clamp(min=0)
    slope_top = (options.together @ (options.place * sum_y)[..., None])[..., 0]
    slope_low = (options.together @ (options.place**2 * count)[..., None])[..., 0]
    trend = slope_top / (slope_low + 2)
    weight = (strength + 0.04) ** 0.75
    per_position = weight * options.valid / options.size.clamp(min=1)
    weight = weight / (per_position.sum(1, keepdim=True) / options.positions[:, None])
    failing = (live @ trials.failed[..., None])[..., 0] / (count + 1)
    waiting = (across @ trials.pending[..., None])[..., 0]
    features = torch.stack(
        [
            count / total,
            count.log1p() / 3,
            mean_y,
            mean_z,
            best_y / 2,
            top_share,
            deviation,
            mean_y * (count + 1).sqrt(),
            soft_mean,
            soft_count.log1p() / 3,
            kin_mean,
            kin_count.log1p() / 3,
            strength,
            weight.log(),
            trend * options.place,
            options.place**2,
            options.ordered,
            1 / options.size.clamp(min=1),
            options.size.clamp(min=1).log() / 2,
            (across @ best[..., None])[..., 0],
            failing,
            waiting.log1p(),
        ],
        dim=2,
    )
    return features * options.valid[..., None], weight * options.valid


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
    targets, rank = _targets(trials)
    finished = 1 - trials.pending
    scored = finished * (1 - trials.failed)
    y = targets[..., 0]
    masked = torch.where(scored > 0, y, y.new_tensor(-9.0))
    best = (masked == masked.max(1, keepdim=True).values).to(y.dtype) * scored
    best = best / best.sum(1, keepdim=True).clamp(min=1)
    features, weight = _option_statistics(options, trials, targets, best)
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
