"""The local ranker: the in-context model as a Ranker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lm_searcher.spaces.errors import SpaceError
from lm_searcher.spaces.history import History
from lm_searcher.spaces.landscapes.space_shape import SpaceShape
from lm_searcher.spaces.ncode import MAX_OPTIONS, Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Ranking
from lm_searcher.tools.rankers.incontext.features import (
    Candidates,
    HistoryContext,
    digest,
    inputs_of,
    predict,
    similarity,
)
from lm_searcher.tools.rankers.incontext.history import Trials
from lm_searcher.tools.rankers.incontext.loading import load_model
from lm_searcher.tools.rankers.incontext.model import InContextModel
from lm_searcher.tools.rankers.incontext.options import OptionTensors
from lm_searcher.tools.rankers.incontext.pending import Conditioned, PendingTrials
from lm_searcher.tools.rankers.incontext.trial_selection import scaled_scores, select_trials

MAX_POSITIONS = 64
MAX_TRIALS = 600
"""The most finished trials that are read; from there on a decision costs the same."""
LISTING_TRIALS = 300
"""The most trials that the surrogates read to select the short list; the cost is quadratic."""
ENTRIES = 3_000_000
"""About the size of the largest array for a chunk of candidates, in numbers."""
SPREAD = 200
"""The candidates of which several picks are chosen; twice the picks, if they are more."""
DIGESTS = 2
"""How many digests of finished trials are kept: one to select the short list, one to rank it."""


@dataclass(frozen=True)
class _Read:
    """A pool that was scored."""

    scores: NDArray[np.float64]
    """[candidates]."""
    listed: NDArray[np.intp]
    """The rows that the network has read."""
    conditioned: Conditioned | None = None
    """These candidates, given the pending trials; None where there are none to consider."""

    def spread(self, order: Ranking, picks: int) -> Ranking:
        """The order with picks first that are no near-duplicates of each other."""
        assert self.conditioned is not None
        first = order[: min(max(SPREAD, 2 * picks), len(self.listed))]
        place = np.empty(len(order), np.intp)
        place[self.listed] = np.arange(len(self.listed))
        chosen = self.conditioned.rows(torch.as_tensor(place[first])).spread(picks)
        left = np.delete(first, chosen)
        return np.concatenate([first[chosen], left, order[len(first) :]])


class InContextRanker:
    """Ranks by a transformer's score, zero-shot; reads up to `most_trials` of the history.

    Renumbering positions or options, reversing an ordered position, or reordering the trials
    changes the scores by no more than rounding. Equal scores, and all candidates before the
    first finished trial, are in a random order of the seed. Raises SpaceError for a space of
    more than 64 positions.
    """

    def __init__(
        self, shape: SpaceShape, model: InContextModel, most_trials: int = MAX_TRIALS
    ) -> None:
        if shape.positions > MAX_POSITIONS or shape.cardinalities.max() > MAX_OPTIONS:
            raise SpaceError(
                f"{shape.positions} positions of up to {shape.cardinalities.max()} options; "
                f"the local ranker takes {MAX_POSITIONS} of {MAX_OPTIONS}: use ranker 'tpe'"
            )
        self.shape = shape
        self.model = model
        self.most_trials = most_trials
        self._options = OptionTensors.of([shape])
        self._digests: dict[bytes, HistoryContext] = {}
        """By the content of the trials that were read; a digest depends on nothing else."""

    @classmethod
    def for_space(cls, space: SearchSpace, weights: str | Path | None = None) -> InContextRanker:
        """The ranker of a space. Raises ConfigError as `load_model`, SpaceError as above."""
        return cls(SpaceShape.of(space), load_model(weights))

    def rank(self, pool: Codes, history: History, *, seed: int) -> Ranking:
        """See Ranker."""
        return self.rank_batch(pool, history, 1, seed=seed)

    def rank_batch(self, pool: Codes, history: History, picks: int, *, seed: int) -> Ranking:
        """See BatchRanker."""
        # A random order decides between equal scores.
        order = np.random.default_rng([seed, len(history), 0x1C]).permutation(len(pool))
        if history.pending.all():
            return order
        with torch.inference_mode(), _one_thread():
            read = self._read(pool, history, keep=picks > 1)
            order = order[np.argsort(-read.scores[order], kind="stable")]
            return order if read.conditioned is None or picks < 2 else read.spread(order, picks)

    def score(self, pool: Codes, history: History) -> NDArray[np.float64]:
        """The score of each candidate, shape [candidates]; all 0 before the first finished trial.

        Candidates that are not on the short list have lower scores than those on it.
        """
        if history.pending.all():
            return np.zeros(len(pool))
        with torch.inference_mode(), _one_thread():
            return self._read(pool, history).scores

    def _read(self, pool: Codes, history: History, keep: bool = False) -> _Read:
        """Score the pool; `keep` what is needed to pick several."""
        context = self._digest(history, self.most_trials)
        size, bound = short_list(int(np.count_nonzero(~history.pending)))
        if len(pool) <= size:
            return self._read_listed(pool, history, context, keep)
        short = self._digest(history, min(self.most_trials, LISTING_TRIALS))
        scores = self._bounds(pool, short, bound)
        listed = np.argpartition(-scores, size)[:size]
        read = self._read_listed(pool[listed], history, context, keep)
        scores += read.scores.min() - 1 - scores.max()
        scores[listed] = read.scores
        return replace(read, scores=scores, listed=listed)

    def _bounds(self, pool: Codes, context: HistoryContext, bound: float) -> NDArray[np.float64]:
        """The surrogates' means and so many standard deviations."""
        parts = [predict(context, self._member(part)) for part in self._parts(pool, context)]
        return _joined([(mean + bound * deviation)[0] for mean, deviation in parts])

    def _read_listed(
        self, pool: Codes, history: History, context: HistoryContext, keep: bool
    ) -> _Read:
        """Score candidates by the network, and then by what is pending."""
        scores, kept = [], []
        keep = keep or bool(history.pending.any())
        for part in self._parts(pool, context):
            member = self._member(part)
            alike = similarity(context, member)
            candidates = Candidates.of(context, member, alike)
            scores.append(self.model.acquisition(inputs_of(context, candidates, alike))[0])
            if keep:
                kept.append(candidates)
        found, listed = _joined(scores), np.arange(len(pool))
        if not keep:
            return _Read(found, listed)
        candidates = Candidates.joined(kept)
        best_first = torch.as_tensor(np.argsort(-found, kind="stable"))
        waiting = self._member(history.codes[history.pending])
        pending = PendingTrials.next_to(context, candidates.member[:, best_first], waiting)
        conditioned = Conditioned(pending, candidates, torch.as_tensor(found))
        return _Read(conditioned.scores.numpy(), listed, conditioned)

    def _parts(self, pool: Codes, context: HistoryContext) -> list[Codes]:
        """The pool in parts that bound the memory."""
        rows = self._options.valid.shape[1]
        trials = context.trials.scores.shape[1]
        chunk = max(64, ENTRIES // (rows + 12 * trials + 300))
        return np.array_split(pool, -(-len(pool) // chunk))

    def _member(self, codes: Codes) -> torch.Tensor:
        return self._options.member(torch.tensor(codes)[None])

    def _digest(self, history: History, most: int) -> HistoryContext:
        """The digest of the finished trials, at most so many of them."""
        rows = select_trials(history, most)
        codes, scores = history.codes[rows], history.scores[rows]
        failed = history.failed[rows] | np.isnan(scores)
        key = codes.tobytes() + scores.tobytes() + failed.tobytes()
        if key not in self._digests:
            self._digests[key] = digest(self._options, self._trials(codes, scores, failed))
        found = self._digests[key] = self._digests.pop(key)  # the latest is last
        while len(self._digests) > DIGESTS:
            del self._digests[next(iter(self._digests))]
        return found

    def _trials(
        self, codes: Codes, scores: NDArray[np.float64], failed: NDArray[np.bool_]
    ) -> Trials:
        def tensor(array: NDArray[np.float64] | NDArray[np.bool_]) -> torch.Tensor:
            return torch.as_tensor(array[None], dtype=torch.float32)

        return Trials(
            self._member(codes),
            tensor(scaled_scores(scores)),
            tensor(failed),
            tensor(np.zeros(len(failed), bool)),
        )


def short_list(trials: int) -> tuple[int, float]:
    """How many candidates the network reads after so many finished trials, and by which bound the
    surrogates select them from a larger pool, in standard deviations above the mean.

    After a long history the bound is low: many candidates are then far from all trials, and
    nearly none of them is worth a trial.
    """
    return (1024, 3.0) if trials <= LISTING_TRIALS else (384, 1.0)


def _joined(parts: list[torch.Tensor]) -> NDArray[np.float64]:
    joined: NDArray[np.float64] = torch.cat(parts).double().numpy()
    return joined


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread. The work is small, and while evaluations keep the cores busy several
    threads wait for each other (measured: 4 s instead of 0.05 s)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
