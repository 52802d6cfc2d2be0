"""The features that the network reads, from a history and candidates.

No feature depends on the numbering of positions or options, and reversing an ordered position
changes none. Scores enter by rank and by size, so a monotone change of the objective changes
little.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
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
from lm_searcher.tools.rankers.incontext.options import OptionTensors

PREDICTION_FEATURES = 3 * KERNELS + 6
TRIAL_FEATURES = PREDICTION_FEATURES + 8
CANDIDATE_FEATURES = PREDICTION_FEATURES + 3
GLOBAL_FEATURES = 2 * KERNELS + KERNELS + 10


@dataclass(frozen=True)
class HistoryContext:
    """All that the features need of a history; computed once for all candidates."""

    options: OptionTensors
    trials: Trials
    weight: Tensor
    """[b, m]: the estimated importance of each option's position, mean 1 over positions."""
    processes: Processes
    targets: Tensor
    """[b, t, 3]: normal score, z-score, whether the trial failed."""
    best: Tensor
    """[b, t]: 1 for the incumbent; several equal ones share the 1."""
    option_features: Tensor
    """[b, m, OPTION_FEATURES]."""
    trial_features: Tensor
    """[b, t, TRIAL_FEATURES]."""
    global_features: Tensor
    """[b, GLOBAL_FEATURES]."""
    relations: Tensor
    """[b, relations, t, t]."""


@dataclass(frozen=True)
class NetworkInputs:
    """The tensors that InContextModel reads: b histories of t trials, n candidates, m options."""

    trial_member: Tensor
    """[b, t, m]."""
    option_features: Tensor
    """[b, m, OPTION_FEATURES]."""
    trial_features: Tensor
    """[b, t, TRIAL_FEATURES]."""
    global_features: Tensor
    """[b, GLOBAL_FEATURES]."""
    trial_relations: Tensor
    """[b, relations, t, t]."""
    near: Tensor
    """[b, m, m]."""
    same: Tensor
    """[b, m, m]."""
    positions: Tensor
    """[b]."""
    member: Tensor
    """[b, n, m]."""
    candidate_features: Tensor
    """[b, n, CANDIDATE_FEATURES]."""
    relations: Tensor
    """[b, relations, n, t]."""


def _mixture(post: Posterior, belief: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mixture of all processes, weighted by `belief`: each [b, n].

    The mean of the normal score, the mean of the z-score, the deviation of the normal score.
    """
    share = belief[:, :, None]
    mean = (post.mean[..., 0] * share).sum(1)
    second = ((post.sd**2 + post.mean[..., 0] ** 2) * share).sum(1)
    return mean, (post.mean[..., 1] * share).sum(1), (second - mean**2).clamp(min=1e-4).sqrt()


def _predictions(incumbent: Tensor, post: Posterior, belief: Tensor) -> Tensor:
    """[b, n, PREDICTION_FEATURES]; `incumbent` [b] is the best trial's normal score."""
    mean, z, sd = _mixture(post, belief)
    excess = (mean - incumbent[:, None]) / sd
    improvement = torch.special.log_ndtr(excess.clamp(min=-8)) / 3  # log probability
    # The order is part of the weights' format: InContextModel.acquisition reads the third.
    mixed = torch.stack([mean, z, sd.log(), mean + sd, improvement, excess / 3], dim=2)
    each = [post.mean[..., 0], post.mean[..., 1], post.sd.log()]
    return torch.cat([mixed, *(x.transpose(1, 2) for x in each)], dim=2)


def digest(options: OptionTensors, trials: Trials) -> HistoryContext:
    """Fit the surrogates, and compute the features that do not depend on the candidates."""
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
    own[..., -1] *= finished  # a pending trial has no error
    skill = processes.skill[..., :2].flatten(1)
    return HistoryContext(
        options,
        trials,
        weight,
        processes,
        targets,
        best,
        features,
        torch.cat([_predictions(top, post, belief), own], dim=2),
        torch.cat([_overall(options, trials, targets, top), skill, belief], dim=1),
        alike.relations(options.positions),
    )


def _overall(options: OptionTensors, trials: Trials, targets: Tensor, top: Tensor) -> Tensor:
    """Features of the history and the space as a whole, [b, 10]; `top` [b] is the best score."""
    scored = (1 - trials.pending) * (1 - trials.failed)
    b, t = trials.scores.shape
    count = trials.scores.new_full((b,), t).clamp(min=1)
    several = (options.same.sum(2) > 1).to(scored.dtype) * options.valid
    skewness = ((targets[..., 1] ** 3) * scored).sum(1) / count
    return torch.stack(
        [
            count.log() / 5,
            scored.sum(1).add(1).log() / 5,
            trials.failed.sum(1) / count,
            trials.pending.sum(1) / count,
            options.positions.log() / 3,
            options.valid.sum(1).log() / 5,
            (options.ordered.sum(1) / options.valid.sum(1)),
            several.sum(1) / options.valid.sum(1),
            skewness.clamp(-5, 5) / 3,
            top,
        ],
        dim=1,
    )


@dataclass(frozen=True)
class Candidates:
    """n candidates as the surrogates see them, after a history of t trials."""

    member: Tensor
    """[b, n, m] from OptionTensors.member."""
    cross: Tensor
    """Kernels to the trials, [b, kernels, n, t]."""
    solved: Tensor
    """`cross` times the inverse of the trials' kernels, [b, kernels, n, t]."""
    explained: Tensor
    """The part of the variance that the trials explain, [b, kernels, n]."""
    mean: Tensor
    """[b, kernels, n, targets]."""

    @classmethod
    def of(cls, context: HistoryContext, member: Tensor, alike: Similarity) -> Candidates:
        """Candidates `member` that are `alike` to the trials, see `similarity`."""
        cross, processes = alike.kernels(), context.processes
        solved = cross @ processes.inverse
        return cls(member, cross, solved, (solved * cross).sum(3), cross @ processes.weights)

    @classmethod
    def joined(cls, parts: Sequence[Candidates]) -> Candidates:
        """The candidates of several parts."""
        if len(parts) == 1:
            return parts[0]
        fields = [[getattr(part, f.name) for part in parts] for f in dataclasses.fields(cls)]
        return cls(torch.cat(fields[0], dim=1), *(torch.cat(field, dim=2) for field in fields[1:]))

    def __getitem__(self, rows: Tensor) -> Candidates:
        fields = [getattr(self, f.name) for f in dataclasses.fields(self)]
        return Candidates(fields[0][:, rows], *(field[:, :, rows] for field in fields[1:]))


def similarity(context: HistoryContext, member: Tensor) -> Similarity:
    """Of candidates `member` [b, n, m] and the trials."""
    return Similarity.of(context.options, member, context.trials.member, context.weight)


def predict(context: HistoryContext, member: Tensor) -> tuple[Tensor, Tensor]:
    """The surrogates' mean and deviation of candidates' normal scores: each [b, n].

    `member` [b, n, m] is from OptionTensors.member.
    """
    post = context.processes.predict(similarity(context, member).kernels())
    mean, _, sd = _mixture(post, context.processes.belief)
    return mean, sd


def network_inputs(context: HistoryContext, member: Tensor) -> NetworkInputs:
    """The network's inputs for candidates `member` [b, n, m]."""
    alike = similarity(context, member)
    return inputs_of(context, Candidates.of(context, member, alike), alike)


def inputs_of(context: HistoryContext, candidates: Candidates, alike: Similarity) -> NetworkInputs:
    """The network's inputs for candidates that are `alike` to the trials."""
    trials, options, processes = context.trials, context.options, context.processes
    post = Posterior(candidates.mean, processes.deviation(candidates.explained))
    top = (context.best * context.targets[..., 0]).sum(1)
    failing = (post.mean[..., 2] * processes.belief[:, :, None]).sum(1)
    nearest = alike.uniform.max(2).values
    to_best = (alike.uniform * context.best[:, None]).sum(2)
    own = torch.stack([failing, nearest, to_best], dim=2)
    return NetworkInputs(
        trials.member,
        context.option_features,
        context.trial_features,
        context.global_features,
        context.relations,
        options.near,
        options.same,
        options.positions,
        candidates.member,
        torch.cat([_predictions(top, post, processes.belief), own], dim=2),
        alike.relations(options.positions),
    )
