"""The surrogates: Gaussian processes under several kernels, fitted as one batch.

Their predictions are inputs of the network, together with the leave-one-out errors of each on
the same history, so that the network can learn which surrogate to trust. Leave-one-out formulas
are those of Rasmussen and Williams, Gaussian Processes for Machine Learning, section 5.4.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lm_searcher.tools.rankers.incontext.options import OptionTensors

NOISES = (0.1, 0.05, 0.05, 0.02, 0.15, 0.1, 0.4)
"""The noise variance of each process; the signal variance is 1."""
KERNELS = len(NOISES)
RELATIONS = 5
JITTER = 1e-4
"""Added to each diagonal, for the Cholesky factor in float32."""
IGNORED = 1e4
"""The noise variance of a trial without an outcome; it makes the trial count for nothing."""


@dataclass(frozen=True)
class Similarity:
    """How alike architectures and trials are: each [b, n, t], 1 for identical ones."""

    uniform: Tensor
    """The share of positions that agree; near options of ordered positions agree in part."""
    weighted: Tensor
    """The same, with positions weighted by `option_statistics`."""
    counts: Tensor
    """1 minus the squared distance between the counts of each option in each group, scaled."""

    @classmethod
    def of(cls, options: OptionTensors, rows: Tensor, trials: Tensor, weight: Tensor) -> Similarity:
        """Between memberships `rows` [b, n, m] and `trials` [b, t, m]; `weight` is [b, m]."""
        p = options.positions[:, None, None]
        near = trials @ options.near
        uniform = rows @ near.transpose(1, 2) / p
        weighted = (rows * weight[:, None]) @ near.transpose(1, 2) / p
        # |a - b|^2 = |a|^2 + |b|^2 - 2ab, where a and b count each option of each group.
        hist = trials @ options.same
        cross = rows @ hist.transpose(1, 2)
        own = (trials * hist).sum(2)[:, None]
        mine = (rows * (rows @ options.same)).sum(2)[:, :, None]
        return cls(uniform, weighted, 1 - (mine + own - 2 * cross) / (2 * p))

    @cached_property
    def _smooth(self) -> Tensor:
        return torch.exp(-3 * (1 - self.uniform))

    @cached_property
    def _sharp(self) -> Tensor:
        return torch.exp(-8 * (1 - self.weighted))

    def kernels(self) -> Tensor:
        """The kernels, one for each of NOISES: [b, kernels, n, t]."""
        weighted = torch.exp(-3 * (1 - self.weighted))
        return torch.stack(
            [
                self.uniform,
                self._smooth,
                weighted,
                self._sharp,
                torch.exp(-5 * (1 - self.counts)),
                self.weighted,
                weighted,
            ],
            dim=1,
        )

    def relations(self, positions: Tensor) -> Tensor:
        """Similarities by which attention is shifted: [b, relations, n, t]."""
        edits = positions[:, None, None] * (1 - self.uniform)
        return torch.stack(
            [self._smooth, self.weighted, self._sharp, self.counts, torch.exp(-edits)], dim=1
        )


@dataclass(frozen=True)
class Posterior:
    """The predictions of every process; a trial's own prediction is leave-one-out."""

    mean: Tensor
    """[b, kernels, n, targets]."""
    sd: Tensor
    """[b, kernels, n], scaled to fit the leave-one-out errors on the history."""


@dataclass(frozen=True)
class Processes:
    """Gaussian processes fitted to a history."""

    inverse: Tensor
    """[b, kernels, t, t]: the inverse of kernel plus noise."""
    weights: Tensor
    """[b, kernels, t, targets]: the inverse times the targets."""
    targets: Tensor
    """[b, t, targets]."""
    active: Tensor
    """[b, t]: 1 for a trial with an outcome."""

    @classmethod
    def fit(cls, kernels: Tensor, targets: Tensor, active: Tensor) -> Processes:
        """Fit to the trials' kernels [b, k, t, t] and targets [b, t, targets], those `active`."""
        noise = torch.tensor(NOISES, device=kernels.device)[None, :, None]
        diagonal = noise + IGNORED * (1 - active[:, None])
        factor = torch.linalg.cholesky(kernels + torch.diag_embed(diagonal + JITTER))
        inverse = torch.cholesky_inverse(factor)
        targets = targets * active[..., None]
        return cls(inverse, inverse @ targets[:, None], targets, active)

    @property
    def _diagonal(self) -> Tensor:
        return self.inverse.diagonal(dim1=2, dim2=3).clamp(min=1e-6)

    @property
    def errors(self) -> Tensor:
        """Leave-one-out errors of the active trials, [b, kernels, t, targets]."""
        return self.weights / self._diagonal[..., None] * self.active[:, None, :, None]

    @property
    def scale(self) -> Tensor:
        """The ratio of the leave-one-out errors to the predicted ones, [b, kernels]."""
        count = self.active.sum(1)[:, None]
        squared = (self.errors[..., 0] ** 2 * self._diagonal).sum(2)
        return ((squared + 2) / (count + 2)).sqrt()  # a prior of two errors as predicted

    def trials(self) -> Posterior:
        """Predict each trial from all others."""
        mean = self.targets[:, None] - self.weights / self._diagonal[..., None]
        return Posterior(mean, self._diagonal.rsqrt() * self.scale[..., None])

    def predict(self, cross: Tensor) -> Posterior:
        """Predict candidates from their kernels to the trials, [b, k, n, t]."""
        explained = ((cross @ self.inverse) * cross).sum(3)
        return Posterior(cross @ self.weights, self.deviation(explained))

    def deviation(self, explained: Tensor) -> Tensor:
        """The deviations of outcomes of which a variance of `explained` [b, k, n] is known."""
        noise = torch.tensor(NOISES, device=explained.device)[None, :, None]
        variance = (1 - explained).clamp(min=1e-4) + noise
        return variance.sqrt() * self.scale[..., None]

    @property
    def skill(self) -> Tensor:
        """Leave-one-out R^2 of each process, at least -1: [b, kernels, targets]."""
        total = (self.targets**2).sum(1)[:, None] + 1e-3
        return (1 - (self.errors**2).sum(2) / total).clamp(min=-1)

    @property
    def belief(self) -> Tensor:
        """Weights of the processes by tempered leave-one-out likelihood, [b, kernels]; sum 1."""
        count = self.active.sum(1)[:, None]
        fit = 0.5 * (self._diagonal.log() * self.active[:, None]).sum(2)
        return torch.softmax(0.5 * (fit - count * self.scale.log()), dim=1)
