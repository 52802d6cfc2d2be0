"""The local ranker: the in-context model as a Ranker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    HistoryContext,
    digest,
    network_inputs,
    predict,
)
from lm_searcher.tools.rankers.incontext.history import Trials
from lm_searcher.tools.rankers.incontext.loading import load_model
from lm_searcher.tools.rankers.incontext.model import InContextModel
from lm_searcher.tools.rankers.incontext.options import OptionTensors
from lm_searcher.tools.rankers.incontext.trial_selection import scaled_scores, select_trials

MAX_POSITIONS = 64
MAX_TRIALS = 1000
SHORT_LIST = 1024
"""The most candidates that the network reads. From a larger pool the surrogates, at a quarter of
the cost, select those with the highest upper bounds."""
LISTING_TRIALS = 300
"""The most trials that the surrogates read to select the short list; the cost is quadratic."""
ENTRIES = 3_000_000
"""About the size of the largest array for a chunk of candidates, in numbers."""


class InContextRanker:
    """Ranks by a transformer's score, zero-shot; reads up to `most_trials` of the history.

    Renumbering positions or options, reversing an ordered position, or reordering the trials
    changes the scores by no more than rounding. Equal scores, and all candidates before the
    first finished trial, are in a random order of the seed. Raises SpaceError for a space of
    more than 64 positions.
    """

    sequential = True

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

    @classmethod
    def for_space(cls, space: SearchSpace, weights: str | Path | None = None) -> InContextRanker:
        """The ranker of a space. Raises ConfigError as `load_model`, SpaceError as above."""
        return cls(SpaceShape.of(space), load_model(weights))

    def rank(self, pool: Codes, history: History, *, seed: int) -> Ranking:
        """See Ranker."""
        shuffled = np.random.default_rng([seed, len(history), 0x1C]).permutation(len(pool))
        scores = self.score(pool, history)
        return shuffled[np.argsort(-scores[shuffled], kind="stable")]

    def score(self, pool: Codes, history: History) -> NDArray[np.float64]:
        """The score of each candidate, shape [candidates]; all 0 before the first finished trial.

        Of a pool of more than SHORT_LIST candidates, those that the network does not read have
        lower scores than those it reads.
        """
        if history.pending.all():
            return np.zeros(len(pool))
        with torch.inference_mode(), _one_thread():
            history = self._impute_pending(history)
            context = self._digest(history, self.most_trials)
            if len(pool) <= SHORT_LIST:
                return self._chunked(self._acquisition, pool, context)
            short = self._digest(history, min(self.most_trials, LISTING_TRIALS))
            scores = self._chunked(self._upper_bound, pool, short)
            listed = np.argpartition(-scores, SHORT_LIST)[:SHORT_LIST]
            read = self._chunked(self._acquisition, pool[listed], context)
            scores += read.min() - 1 - scores.max()
            scores[listed] = read
            return scores

    def _chunked(
        self,
        score: Callable[[Codes, HistoryContext], torch.Tensor],
        pool: Codes,
        context: HistoryContext,
    ) -> NDArray[np.float64]:
        """`score` of the whole pool, in chunks that bound the memory."""
        rows = self._options.valid.shape[1]
        trials = context.trials.scores.shape[1]
        chunk = max(64, ENTRIES // (rows + 12 * trials + 300))
        parts = np.array_split(pool, -(-len(pool) // chunk))
        return torch.cat([score(part, context) for part in parts]).double().numpy()

    def _acquisition(self, part: Codes, context: HistoryContext) -> torch.Tensor:
        return self.model.acquisition(network_inputs(context, self._member(part)))[0]

    def _upper_bound(self, part: Codes, context: HistoryContext) -> torch.Tensor:
        """The surrogates' upper confidence bound, three standard deviations above the mean."""
        mean, deviation = predict(context, self._member(part))
        return (mean + 3 * deviation)[0]

    def _member(self, codes: Codes) -> torch.Tensor:
        return self._options.member(torch.tensor(codes)[None])

    def _impute_pending(self, history: History) -> History:
        """Give pending trials the outcomes that the surrogates predict.

        This is the kriging believer (Ginsbourger et al. 2010): candidates like a pending trial
        are then no longer uncertain.
        """
        scores = history.scores[history.scored]
        finite = scores[np.isfinite(scores)]
        if not history.pending.any() or not len(finite):
            return history
        done = ~history.pending
        finished = History(
            history.codes[done], history.scores[done], history.failed[done], history.pending[done]
        )
        pending = self._member(history.codes[history.pending])
        mean, _ = predict(self._digest(finished, self.most_trials), pending)
        imputed = history.scores.copy()
        share = torch.special.ndtr(mean[0]).double().numpy()  # from a normal score to a quantile
        imputed[history.pending] = np.quantile(finite, share)
        return History(history.codes, imputed, history.failed, np.zeros(len(history), bool))

    def _digest(self, history: History, most: int) -> HistoryContext:
        rows = select_trials(history, most)
        scores, pending = history.scores[rows], history.pending[rows]
        failed = (history.failed[rows] | np.isnan(scores)) & ~pending

        def tensor(array: NDArray[np.float64] | NDArray[np.bool_]) -> torch.Tensor:
            return torch.as_tensor(array[None], dtype=torch.float32)

        return digest(
            self._options,
            Trials(
                self._member(history.codes[rows]),
                tensor(scaled_scores(scores)),
                tensor(failed),
                tensor(pending),
            ),
        )


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
