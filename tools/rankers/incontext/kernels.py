"""What simple surrogates say: Gaussian processes under several similarities at once.

Their predictions are inputs of the network, together with how right each has been on this very
history (leave-one-out): the network learns when to believe which.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lm_searcher.tools.rankers.incontext.options import Options

NOISES = (0.1, 0.05, 0.05, 0.02, 0.15, 0.1, 0.4)
"""The noise variance of each process, the signal's being 1."""
KERNELS = len(NOISES)
RELATIONS = 5
IGNORED = 1e4
"""The noise variance of a trial that a process must not learn from."""


@dataclass(frozen=True)
class Similarity:
    """How alike architectures and trials are, each [b, n, t] with 1 for identical ones."""

    uniform: Tensor
    """The share of positions that agree, or nearly so where ordered."""
    weighted: Tensor
    """The same, positions weighted by what they seem to matter."""
    counts: Tensor
    """1 less the distance of the numbers of times that each option of a group occurs."""

    @classmethod
    def of(cls, options: Options, rows: Tensor, trials: Tensor, weight: Tensor) -> Similarity:
        """Between members `rows` [b, n, m] and `trials` [b, t, m]; `weight` is [b, m]."""
        p = options.positions[:, None, None]
        near = trials @ options.near
        uniform = rows @ near.transpose(1, 2) / p
        weighted = (rows * weight[:, None]) @ near.transpose(1, 2) / p
        hist = trials @ options.same
        cross = rows @ hist.transpose(1, 2)
        own = (trials * hist).sum(2)[:, None]
        mine = (rows * (rows @ options.same)).sum(2)[:, :, None]
        return cls(uniform, weighted, 1 - (mine + own - 2 * cross) / (2 * p))

    def kernels(self) -> Tensor:
        """One for each of NOISES, [b, kernels, n, t]."""
        smooth = torch.exp(-3 * (1 - self.weighted))
        return torch.stack(
            [
                self.uniform,
                torch.exp(-3 * (1 - self.uniform)),
                smooth,
                torch.exp(-8 * (1 - self.weighted)),
                torch.exp(-5 * (1 - self.counts)),
                self.weighted,
                smooth,
            ],
            dim=1,
        )

    def relations(self, positions: Tensor) -> Tensor:
        """What attention may weigh trials by, [b, relations, n, t]."""
        edits = positions[:, None, None] * (1 - self.uniform)
        return torch.stack(
            [
                torch.exp(-3 * (1 - self.uniform)),
                self.weighted,
                torch.exp(-8 * (1 - self.weighted)),
                self.counts,
                torch.exp(-edits),
            ],
            dim=1,
        )


@dataclass(frozen=True)
class Posterior:
    """Predictions of every process; for a trial, made without that trial."""

    mean: Tensor
    """[b, kernels, n, targets]."""
    sd: Tensor
    """[b, kernels, n], scaled so that it fits the errors made on the history."""


@dataclass(frozen=True)
class Processes:
    """Gaussian processes fitted to a history."""

    inverse: Tensor
    """[b, kernels, t, t]."""
    weights: Tensor
    """[b, kernels, t, targets]."""
    targets: Tensor
    """[b, t, targets]."""
    active: Tensor
    """[b, t]."""

    @classmethod
    def fit(cls, kernels: Tensor, targets: Tensor, active: Tensor) -> Processes:
        """From the kernels among trials [b, k, t, t]; what is not `active` is not learnt from."""
        noise = torch.tensor(NOISES, device=kernels.device)[None, :, None]
        diagonal = noise + IGNORED * (1 - active[:, None])
        factor = torch.linalg.cholesky(kernels + torch.diag_embed(diagonal + 1e-4))
        inverse = torch.cholesky_inverse(factor)
        targets = targets * active[..., None]
        return cls(inverse, inverse @ targets[:, None], targets, active)

    @property
    def _diagonal(self) -> Tensor:
        return self.inverse.diagonal(dim1=2, dim2=3).clamp(min=1e-6)

    @property
    def errors(self) -> Tensor:
        """Leave-one-out errors, [b, kernels, t, targets]."""
        return self.weights / self._diagonal[..., None] * self.active[:, None, :, None]

    @property
    def scale(self) -> Tensor:
        """By how much the errors exceed what was expected, [b, kernels]."""
        count = self.active.sum(1)[:, None]
        squared = (self.errors[..., 0] ** 2 * self._diagonal).sum(2)
        return ((squared + 2) / (count + 2)).sqrt()  # as if two errors had been as expected

    def trials(self) -> Posterior:
        """Each trial predicted from the others."""
        mean = self.targets[:, None] - self.weights / self._diagonal[..., None]
        return Posterior(mean, self._diagonal.rsqrt() * self.scale[..., None])

    def predict(self, cross: Tensor) -> Posterior:
        """Candidates, from their kernels to the trials [b, k, n, t]."""
        noise = torch.tensor(NOISES, device=cross.device)[None, :, None]
        explained = ((cross @ self.inverse) * cross).sum(3)
        variance = (1 - explained).clamp(min=1e-4) + noise
        return Posterior(cross @ self.weights, variance.sqrt() * self.scale[..., None])

    @property
    def skill(self) -> Tensor:
        """The share of variance that each predicted, leave-one-out, [b, kernels, targets]."""
        total = (self.targets**2).sum(1)[:, None] + 1e-3
        return (1 - (self.errors**2).sum(2) / total).clamp(min=-1)

    @property
    def belief(self) -> Tensor:
        """How likely each is, by leave-one-out likelihood (tempered), [b, kernels]."""
        count = self.active.sum(1)[:, None]
        fit = 0.5 * (self._diagonal.log() * self.active[:, None]).sum(2)
        return torch.softmax(0.5 * (fit - count * self.scale.log()), dim=1)
