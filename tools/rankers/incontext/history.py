"""Statistics of a history: scores by rank and by size, and the results of each option."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lm_searcher.tools.rankers.incontext.options import OptionTensors

OPTION_FEATURES = 22


@dataclass(frozen=True)
class Trials:
    """A batch of histories of equal length: b histories of t trials on spaces of m options."""

    member: Tensor
    """[b, t, m] from OptionTensors.member."""
    scores: Tensor
    """[b, t]; any number for a trial without a score."""
    failed: Tensor
    """[b, t] float: 1 for a failed trial."""
    pending: Tensor
    """[b, t] float: 1 for a pending trial."""


def targets_of(trials: Trials) -> tuple[Tensor, Tensor]:
    """Targets of the surrogates [b, t, 3], and ranks in [-1, 1] [b, t].

    The targets are the normal score (the normal quantile of the rank), the z-score, and whether
    the trial failed. Both scores have mean 0 and variance 1 over the scored trials; failed
    trials are just below the worst, pending ones 0.
    """
    scored = (1 - trials.failed) * (1 - trials.pending)
    count = scored.sum(1, keepdim=True).clamp(min=1)
    s = torch.where(scored > 0, trials.scores, torch.zeros_like(trials.scores))
    # [b, t, t] @ [b, t, 1]: how many scored trials are below, or equal to, each trial.
    below = (s[:, None, :] < s[:, :, None]).to(s.dtype) @ scored[..., None]
    equal = (s[:, None, :] == s[:, :, None]).to(s.dtype) @ scored[..., None]
    share = ((below + 0.5 * equal)[..., 0] / count).clamp(1e-3, 1 - 1e-3)
    normal = torch.special.ndtri(share) * scored
    mean = s.sum(1, keepdim=True) / count
    spread = (((s - mean) ** 2 * scored).sum(1, keepdim=True) / count).sqrt()
    z = ((s - mean) / (spread + 1e-9)).clamp(-4, 4) * scored

    def standardised(y: Tensor) -> Tensor:
        mean = (y * scored).sum(1, keepdim=True) / count
        spread = (((y - mean) ** 2 * scored).sum(1, keepdim=True) / count).sqrt()
        y = (y - mean) / (spread + 1e-3) * scored
        worst = torch.where(scored > 0, y, torch.zeros_like(y)).min(1, keepdim=True).values
        return torch.where(trials.failed > 0, worst.clamp(max=-0.5) - 0.2, y)

    targets = torch.stack([standardised(normal), standardised(z), trials.failed], dim=2)
    return targets, (2 * share - 1) * scored


def option_statistics(
    options: OptionTensors, trials: Trials, targets: Tensor, best: Tensor
) -> tuple[Tensor, Tensor]:
    """Features of each option [b, m, OPTION_FEATURES], and its position's weight [b, m].

    `targets` is from `targets_of`, `best` [b, t] is 1 for the incumbent. The weight estimates
    how much the position matters; its mean over positions is 1.
    """
    done = 1 - trials.pending
    across = trials.member.transpose(1, 2)  # [b, m, t]
    live = across * done[:, None]  # which finished trials have the option
    count = live.sum(2)
    total = done.sum(1)[:, None].clamp(min=1)
    y, z = targets[..., 0] * done, targets[..., 1] * done
    sum_y, sum_z = (live @ y[..., None])[..., 0], (live @ z[..., None])[..., 0]
    mean_y, mean_z = sum_y / (count + 1), sum_z / (count + 1)  # +1 shrinks rare options to 0
    square = (live @ (y**2)[..., None])[..., 0]
    deviation = ((square - sum_y**2 / count.clamp(min=1)) / count.clamp(min=1)).clamp(min=0).sqrt()
    best_y = torch.where(live > 0, y[:, None], y.new_tensor(-3.0)).max(2).values
    top = (y > 0.8).to(y.dtype)  # about the best fifth: y is a normal score
    top_share = (live @ top[..., None])[..., 0] / (top.sum(1)[:, None] + 1)
    # The same mean over similar options of the position, and over equal options of the group.
    soft_count = (options.near @ count[..., None])[..., 0]
    soft_mean = (options.near @ sum_y[..., None])[..., 0] / (soft_count + 0.7)
    kin = options.same - torch.eye(options.same.shape[1], device=y.device)
    kin_count = (kin @ count[..., None])[..., 0]
    kin_mean = (kin @ sum_y[..., None])[..., 0] / (kin_count + 2)
    # The variance between a position's options, less what chance alone would give.
    between = (options.together @ (count * mean_y**2)[..., None])[..., 0] / total
    strength = (between - 0.5 * (options.size - 1) / total).clamp(min=0)
    # The slope of a regression of y on the place at ordered positions, with a ridge of 2.
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
