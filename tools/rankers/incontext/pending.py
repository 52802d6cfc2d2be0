"""Pending trials and picks: what the surrogates will be less uncertain about.

The outcome of a pending trial is taken to be what each surrogate expects of it. Its mean then
stays as it is everywhere, and only its variance falls, so nothing is fitted anew. This is GP-BUCB
(Desautels, Krause and Burdick 2014, section 3). Near-duplicates of a pending trial lose most.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lm_searcher.tools.rankers.incontext.features import Candidates, HistoryContext
from lm_searcher.tools.rankers.incontext.kernels import JITTER, NOISES, Similarity

MOST_PENDING = 512
"""The most pending trials that the variances are conditioned on: see `next_to`."""


class PendingTrials:
    """Pending trials as the surrogates expect them."""

    def __init__(self, context: HistoryContext, member: Tensor) -> None:
        """`member` [1, p, m] is from OptionTensors.member; p may be 0."""
        self.context = context
        self.trials = Candidates.of(context, member)
        noise = torch.diag_embed(_noise(self.trials.explained))
        covariance = _covariance(context, self.trials, self.trials) + noise
        unit = torch.eye(member.shape[1]).expand(covariance.shape)
        self.whitening = torch.linalg.solve_triangular(
            torch.linalg.cholesky(covariance), unit, upper=False
        )
        """The inverse of the Cholesky factor of their covariance, [1, kernels, p, p]."""

    @classmethod
    def next_to(
        cls, context: HistoryContext, member: Tensor, pending: Tensor, most: int = MOST_PENDING
    ) -> PendingTrials:
        """The trials among `pending` [1, p, m] that matter for candidates `member` [1, n, m].

        All, or if they are more than `most`: those nearest to the first candidates.
        """
        if pending.shape[1] > most:
            alike = Similarity.of(context.options, member, pending, context.weight)
            nearest = (alike.uniform + alike.weighted)[0].argmax(1).numpy()
            rows, first = np.unique(nearest, return_index=True)
            pending = pending[:, torch.as_tensor(rows[np.argsort(first)[:most]])]
        return cls(context, pending)

    def condition(self, candidates: Candidates, picks: int = 0) -> Conditioned:
        """The candidates given these trials, with room for so many picks."""
        rows = self.whitening @ _covariance(self.context, self.trials, candidates)
        return Conditioned(self.context, candidates, rows, picks)


class Conditioned:
    """Candidates whose variances are conditioned on pending trials, and then on picks."""

    def __init__(
        self, context: HistoryContext, candidates: Candidates, rows: Tensor, picks: int
    ) -> None:
        """`rows` [1, kernels, p, n] are the covariances of pending trials and candidates, whitened:
        their squares add up to the variances that the trials will explain."""
        self.context, self.candidates = context, candidates
        b, k, self._known, n = rows.shape
        self._rows, self._explained = rows, (rows**2).sum(2)
        if picks > 1:
            self._rows = torch.cat([rows, rows.new_zeros(b, k, picks - 1, n)], dim=2)
            self._shared = _covariance(context, candidates, candidates)
            self._noise = _noise(candidates.explained)

    def change(self) -> Tensor:
        """The change of the logarithm of each candidate's deviation, [n]; at most 0."""
        candidates, context = self.candidates, self.context
        before = candidates.log_deviation(context, torch.zeros_like(self._explained))
        return (candidates.log_deviation(context, self._explained) - before)[0]

    def pick(self, row: int) -> None:
        """Condition on one of the candidates as well."""
        known = self._rows[:, :, : self._known]
        shared = self._shared[:, :, row] - (known[..., row : row + 1] * known).sum(2)
        variance = shared[..., row] + self._noise[..., row]
        added = shared / variance.sqrt()[..., None]
        self._rows[:, :, self._known] = added
        self._explained = self._explained + added**2
        self._known += 1


def _covariance(context: HistoryContext, a: Candidates, b: Candidates) -> Tensor:
    """Covariances after the history, without noise: [1, kernels, candidates of a, those of b]."""
    alike = Similarity.of(context.options, a.member, b.member, context.weight)
    return alike.kernels() - a.solved @ b.cross.transpose(2, 3)


def _noise(like: Tensor) -> Tensor:
    """The noise variances of outcomes, of the shape of `like` [1, kernels, n]."""
    return (torch.tensor(NOISES)[None, :, None] + JITTER).expand(like.shape)
