"""Pending trials and picks: what the surrogates will be less uncertain about.

The outcome of a pending trial is taken to be what each surrogate expects of it. Its mean then
stays as it is everywhere, and only its variance falls, so nothing is fitted anew. This is GP-BUCB
(Desautels, Krause and Burdick 2014, section 3). Near-duplicates of a pending trial lose most.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from lm_searcher.tools.rankers.incontext.features import Candidates, HistoryContext, similarity
from lm_searcher.tools.rankers.incontext.kernels import JITTER, NOISES, Similarity

PENALTY = 4.0
"""The loss of score of a candidate of whose deviation 1 / e is left. About half of it does as well,
and thrice (on nasbench201, see evals/parallel.py)."""
LEAST = 1e-4
"""The least variance, for float32."""
MOST_PENDING = 512
"""The most pending trials that variances are conditioned on, see PendingTrials.next_to."""


class PendingTrials:
    """Pending trials as the surrogates expect them."""

    def __init__(self, context: HistoryContext, member: Tensor) -> None:
        """`member` [1, p, m] is from OptionTensors.member; p may be 0."""
        self.context = context
        self.trials = Candidates.of(context, member, similarity(context, member))
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


class Conditioned:
    """Candidates with scores that fall with their deviations, by what is pending."""

    def __init__(self, pending: PendingTrials, candidates: Candidates, base: Tensor) -> None:
        """`base` [n] are the scores where nothing is pending."""
        self.context, self.candidates, self.base = pending.context, candidates, base
        # The covariances of pending trials and candidates, whitened, [1, kernels, p, n]: their
        # squares add up to the variances that the trials will explain.
        self._shared = pending.whitening @ _covariance(self.context, pending.trials, candidates)
        self._explained = (self._shared**2).sum(2)

        self._before = self._uncertain(candidates.explained)

    @property
    def scores(self) -> Tensor:
        """The scores of the candidates, [n]."""
        return self._scores(self._explained)

    def _scores(self, explained: Tensor) -> Tensor:
        """The scores if so much of the variances is explained beside what the history explains."""
        after = self._uncertain(self.candidates.explained + explained)
        return self.base + PENALTY / 2 * (after / self._before).log()[0].double()

    def _uncertain(self, explained: Tensor) -> Tensor:
        """The variance of the values without noise, mean over the surrogates: [1, n]."""
        belief = self.context.processes.belief[:, :, None]
        return ((1 - explained).clamp(min=LEAST) * belief).sum(1)

    def rows(self, rows: Tensor) -> Conditioned:
        """Some of the candidates."""
        part = copy.copy(self)
        part.candidates, part.base = self.candidates[rows], self.base[rows]
        part._shared, part._explained = self._shared[..., rows], self._explained[..., rows]
        part._before = self._before[:, rows]
        return part

    def spread(self, picks: int) -> list[int]:
        """The rows of so many picks, in order: each is pending for the next ones."""
        b, k, known, n = self._shared.shape
        # Rows of the Cholesky factor of all covariances: pending trials, then picks.
        factor = torch.cat([self._shared, self._shared.new_zeros(b, k, picks, n)], dim=2)
        covariance = _covariance(self.context, self.candidates, self.candidates)
        noise, explained = _noise(self._explained), self._explained
        chosen: list[int] = []
        while len(chosen) < min(picks, n):
            scores = self._scores(explained)
            scores[chosen] = -torch.inf
            row = int(scores.argmax())
            chosen.append(row)
            before = factor[:, :, :known]
            shared = (before[..., row : row + 1].transpose(2, 3) @ before)[:, :, 0]
            left = covariance[:, :, row] - shared
            added = left / (left[..., row] + noise[..., row]).sqrt()[..., None]
            factor[:, :, known] = added
            known, explained = known + 1, explained + added**2
        return chosen


def _covariance(context: HistoryContext, a: Candidates, b: Candidates) -> Tensor:
    """Covariances after the history, without noise: [1, kernels, candidates of a, those of b]."""
    alike = Similarity.of(context.options, a.member, b.member, context.weight)
    return alike.kernels() - a.solved @ b.cross.transpose(2, 3)


def _noise(like: Tensor) -> Tensor:
    """The noise variances of outcomes, of the shape of `like` [1, kernels, n]."""
    return (torch.tensor(NOISES)[None, :, None] + JITTER).expand(like.shape)
