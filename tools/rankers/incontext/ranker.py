"""The local ranker: the in-context model as a Ranker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
    predict,
)
from lm_searcher.tools.rankers.incontext.history import Trials
from lm_searcher.tools.rankers.incontext.loading import load_model
from lm_searcher.tools.rankers.incontext.model import InContextModel
from lm_searcher.tools.rankers.incontext.options import OptionTensors
from lm_searcher.tools.rankers.incontext.pending import PendingTrials
from lm_searcher.tools.rankers.incontext.trial_selection import scaled_scores, select_trials

MAX_POSITIONS = 64
MAX_TRIALS = 600
"""The most finished trials that are read; from there on a decision costs the same."""
LISTING_TRIALS = 300
"""The most trials that the surrogates read to select the short list; the cost is quadratic."""
ENTRIES = 3_000_000
"""About the size of the largest array for a chunk of candidates, in numbers."""
PENALTY = 2.0
"""The loss of score of a candidate whose deviation falls to 1 / e, by trials that are pending."""
DIGESTS = 2
"""How many digests of finished trials are kept: one to select the short list, one to rank it."""


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
        shuffled = _shuffled(pool, history, seed)
        scores = self.score(pool, history)
        return shuffled[np.argsort(-scores[shuffled], kind="stable")]

    def rank_batch(self, pool: Codes, history: History, picks: int, *, seed: int) -> Ranking:
        """See BatchRanker."""
        if picks < 2 or history.pending.all():
            return self.rank(pool, history, seed=seed)
        size, _ = short_list(int(np.count_nonzero(~history.pending)))
        large = len(pool) > size
        order = self.rank(pool, history, seed=seed) if large else _shuffled(pool, history, seed)
        first, rest = order[:size], order[size:]
        with torch.inference_mode(), _one_thread():
            return np.concatenate([first[self._spread(pool[first], history, picks)], rest])

    def score(self, pool: Codes, history: History) -> NDArray[np.float64]:
        """The score of each candidate, shape [candidates]; all 0 before the first finished trial.

        Candidates that are not on the short list have lower scores than those on it.
        """
        if history.pending.all():
            return np.zeros(len(pool))
        with torch.inference_mode(), _one_thread():
            context = self._digest(history, self.most_trials)
            size, bound = short_list(int(np.count_nonzero(~history.pending)))
            if len(pool) <= size:
                return self._read(pool, history, context)
            short = self._digest(history, min(self.most_trials, LISTING_TRIALS))
            scores = self._bounds(pool, short, bound)
            listed = np.argpartition(-scores, size)[:size]
            read = self._read(pool[listed], history, context)
            scores += read.min() - 1 - scores.max()
            scores[listed] = read
            return scores

    def _bounds(self, pool: Codes, context: HistoryContext, bound: float) -> NDArray[np.float64]:
        """The surrogates' means and so many standard deviations."""
        parts = [predict(context, self._member(part)) for part in self._parts(pool, context)]
        return _joined([(mean + bound * deviation)[0] for mean, deviation in parts])

    def _read(self, pool: Codes, history: History, context: HistoryContext) -> NDArray[np.float64]:
        """The scores of candidates that the network reads."""
        scores, kept = [], []
        for part in self._parts(pool, context):
            candidates = Candidates.of(context, self._member(part))
            scores.append(self._acquisition(candidates, context))
            if history.pending.any():
                kept.append(candidates)
        found = _joined(scores)
        if not kept:
            return found
        pending = self._pending(pool[np.argsort(-found, kind="stable")], history, context)
        return found + PENALTY * _joined([pending.condition(part).change() for part in kept])

    def _acquisition(self, candidates: Candidates, context: HistoryContext) -> torch.Tensor:
        return self.model.acquisition(candidates.network_inputs(context))[0]

    def _spread(self, pool: Codes, history: History, picks: int) -> Ranking:
        """The first picks are chosen one after the other, each with the earlier ones pending."""
        context = self._digest(history, self.most_trials)
        candidates = Candidates.of(context, self._member(pool))
        base = self._acquisition(candidates, context)
        conditioned = self._pending(pool, history, context).condition(candidates, picks)
        scores = base + PENALTY * conditioned.change()
        order = torch.argsort(scores, descending=True, stable=True)
        chosen: list[int] = []
        while len(chosen) < min(picks, len(pool)):
            if chosen:
                conditioned.pick(chosen[-1])
                scores = base + PENALTY * conditioned.change()
                scores[chosen] = -torch.inf
            chosen.append(int(scores.argmax()))
        left = order[~torch.isin(order, torch.tensor(chosen))]
        return np.array([*chosen, *left.tolist()], np.intp)

    def _pending(self, pool: Codes, history: History, context: HistoryContext) -> PendingTrials:
        """The pending trials; of many, those that are next to the first candidates."""
        member = self._member(history.codes[history.pending])
        return PendingTrials.next_to(context, self._member(pool), member)

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


def _shuffled(pool: Codes, history: History, seed: int) -> Ranking:
    """The pool in a random order, which decides between equal scores."""
    return np.random.default_rng([seed, len(history), 0x1C]).permutation(len(pool))


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
