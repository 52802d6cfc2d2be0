"""The local ranker: the in-context model behind the Ranker protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from lm_searcher.spaces.errors import ConfigError, SpaceError
from lm_searcher.spaces.history import History
from lm_searcher.spaces.landscapes.space_shape import SpaceShape
from lm_searcher.spaces.ncode import MAX_OPTIONS, Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Ranking
from lm_searcher.tools.rankers.incontext.features import Context, digest, inputs, predicted
from lm_searcher.tools.rankers.incontext.history import Trials
from lm_searcher.tools.rankers.incontext.model import FORMAT, InContextConfig, InContextModel
from lm_searcher.tools.rankers.incontext.options import Options

WEIGHTS = Path(__file__).parent / "weights"
MAX_POSITIONS = 64
MAX_TRIALS = 1000
SHORT_LIST = 1024
"""How many candidates the network reads. Of a larger pool the surrogates, at a quarter of the cost,
choose them: those that are best if every doubt (3 standard deviations) is in their favour."""
LISTING_TRIALS = 300
"""How many trials the choice of the short list reads at most: its cost grows with their square."""
ENTRIES = 3_000_000
"""About how many numbers of the largest array a chunk of candidates may take."""

# What json, the network's sizes and safetensors raise on files that are none of theirs.
_DAMAGE = (
    *(OSError, ValueError, TypeError, KeyError, AttributeError),
    *(ArithmeticError, RuntimeError, SafetensorError),
)


def load_model(folder: str | Path | None = None) -> InContextModel:
    """The network from a folder of safetensors; by default the one that is shipped.

    Raises ConfigError for weights that are missing, damaged, or of another format.
    """
    folder = Path(folder or WEIGHTS)
    place = f"ranker weights '{folder}'"
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise ConfigError(
                f"{place}: no {name}; accepted: a folder that train-ranker incontext wrote "
                "(safetensors; pickled weights are not read)"
            )
    try:
        document = json.loads((folder / "config.json").read_text())
        kind = document["model_type"]
        if kind != InContextConfig.model_type:
            raise ConfigError(
                f"{place}: of model type '{kind}'; accepted: {InContextConfig.model_type}"
            )
        config = InContextConfig(**document)
        if config.format != FORMAT:
            raise ConfigError(
                f"{place}: format {config.format}; this version reads format {FORMAT}"
            )
        model = InContextModel(config)
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except _DAMAGE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{place}: not readable ({reason})") from None
    if not all(torch.isfinite(p).all() for p in model.parameters()):
        raise ConfigError(f"{place}: some are no finite numbers; the training went wrong")
    model.requires_grad_(False)
    torch.nn.Module.eval(model)
    return model


def kept(history: History, most: int = MAX_TRIALS) -> NDArray[np.intp]:
    """Which trials a ranker with room for `most` reads, in order of trial number.

    All of them if they fit. Else the latest pending ones (a quarter of the room at most), the
    best scored ones (half of the rest), and of what remains an even sample over time.
    """
    if len(history) <= most:
        return np.arange(len(history))
    waiting = np.flatnonzero(history.pending)[-(most // 4) :]
    elite = history.elites((most - len(waiting)) // 2)
    rest = np.setdiff1d(np.flatnonzero(~history.pending), elite)
    room = min(most - len(waiting) - len(elite), len(rest))
    even = rest[np.linspace(0, len(rest) - 1, room).round().astype(np.intp)]
    return np.sort(np.concatenate([waiting, elite, even]))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: the work is small, and where evaluations keep the cores busy several
    threads wait for each other (measured: 4 s instead of 0.05 s)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class InContextRanker:
    """Ranks by a transformer's score, zero-shot; reads up to `most_trials` of the history.

    Renumbering positions or options does not change the scores (beyond rounding), nor does
    reversing an ordered position or the order of the trials. Equal scores are ordered at random
    by the seed; so is everything before the first trial has finished. Raises SpaceError for a
    space of more than 64 positions.
    """

    sequential = True

    def __init__(
        self, layout: SpaceShape, model: InContextModel, most_trials: int = MAX_TRIALS
    ) -> None:
        if layout.positions > MAX_POSITIONS or layout.cardinalities.max() > MAX_OPTIONS:
            raise SpaceError(
                f"{layout.positions} positions of up to {layout.cardinalities.max()} options; "
                f"the local ranker takes {MAX_POSITIONS} of {MAX_OPTIONS}: use ranker 'tpe'"
            )
        self.layout = layout
        self.model = model
        self.most_trials = most_trials
        self._options = Options.of([layout])

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
        """Each candidate's score, shape [candidates]; all 0 while no trial has finished.

        Beyond SHORT_LIST candidates the others stand below those that the network reads.
        """
        if history.pending.all():
            return np.zeros(len(pool))
        with torch.inference_mode(), _one_thread():
            history = self._believed(history)
            context = self._digest(history, self.most_trials)
            if len(pool) <= SHORT_LIST:
                return self._chunked(self._promise, pool, context)
            short = self._digest(history, min(self.most_trials, LISTING_TRIALS))
            scores = self._chunked(self._hope, pool, short)
            listed = np.argpartition(-scores, SHORT_LIST)[:SHORT_LIST]
            read = self._chunked(self._promise, pool[listed], context)
            scores += read.min() - 1 - scores.max()
            scores[listed] = read
            return scores

    def _chunked(
        self, score: Callable[[Codes, Context], torch.Tensor], pool: Codes, context: Context
    ) -> NDArray[np.float64]:
        rows = self._options.valid.shape[1]
        trials = context.trials.scores.shape[1]
        chunk = max(64, ENTRIES // (rows + 12 * trials + 300))
        parts = np.array_split(pool, -(-len(pool) // chunk))
        return torch.cat([score(part, context) for part in parts]).double().numpy()

    def _promise(self, part: Codes, context: Context) -> torch.Tensor:
        return self.model.promise(inputs(context, self._member(part)))[0]

    def _hope(self, part: Codes, context: Context) -> torch.Tensor:
        mean, spread = predicted(context, self._member(part))
        return (mean + 3 * spread)[0]

    def _member(self, codes: Codes) -> torch.Tensor:
        return self._options.member(torch.tensor(codes)[None])

    def _believed(self, history: History) -> History:
        """Pending trials with the outcome that the surrogates expect (kriging believer,
        Ginsbourger et al. 2010): what is like them is no longer uncertain."""
        known = history.scores[history.scored]
        if not history.pending.any() or not np.isfinite(known).any():
            return history
        done = ~history.pending
        finished = History(
            history.codes[done], history.scores[done], history.failed[done], history.pending[done]
        )
        waiting = self._member(history.codes[history.pending])
        mean, _ = predicted(self._digest(finished, self.most_trials), waiting)
        scores = history.scores.copy()
        share = torch.special.ndtr(mean[0]).double().numpy()
        scores[history.pending] = np.quantile(known[np.isfinite(known)], share)
        return History(history.codes, scores, history.failed, np.zeros(len(history), bool))

    def _digest(self, history: History, most: int) -> Context:
        rows = kept(history, most)
        scores, pending = history.scores[rows], history.pending[rows]
        failed = (history.failed[rows] | np.isnan(scores)) & ~pending

        def tensor(array: NDArray[np.float64] | NDArray[np.bool_]) -> torch.Tensor:
            return torch.as_tensor(array[None], dtype=torch.float32)

        return digest(
            self._options,
            Trials(
                self._member(history.codes[rows]),
                tensor(_standard(scores)),
                tensor(failed),
                tensor(pending),
            ),
        )


def _standard(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores that survive float32: centred and scaled, infinite ones at the finite extremes."""
    finite = scores[np.isfinite(scores)]
    if len(finite) == 0:
        return np.nan_to_num(np.sign(scores))
    clipped = np.clip(scores, finite.min(), finite.max())
    scale = float(np.ptp(finite)) or 1.0
    return np.nan_to_num((clipped - np.median(finite)) / scale)
