"""Training samples from runs that have happened: what came later is what was to be chosen from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import TrainingError
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import NCode, to_ncodes
from lm_searcher.tools.rankers.lm.finetuning.samples import Question, Sample


@dataclass(frozen=True)
class Replay:
    """The finished trials of a run, in order; scores are higher-is-better, NaN for a failure."""

    LEAST: ClassVar[int] = 5
    """Trials in a history at least."""

    name: str
    codes: Sequence[NCode]
    scores: NDArray[np.float64]

    @classmethod
    def of(cls, name: str, history: History) -> Self:
        """What of a run has finished."""
        done = ~history.pending
        return cls(name, to_ncodes(history.codes[done]), history.scores[done])

    @property
    def scored(self) -> int:
        """How many trials have a score."""
        return int(np.sum(~np.isnan(self.scores)))

    def split(self, candidates: int) -> int:
        """How many of the trials are learnt from; the later ones, a fifth or as many as a
        question takes, are held out."""
        scored = np.flatnonzero(~np.isnan(self.scores))
        later = max(candidates, len(scored) // 5)
        return int(scored[-later])

    @classmethod
    def needed(cls, candidates: int) -> int:
        """The least number of scored trials that a run must have."""
        return cls.LEAST + 2 * candidates


@dataclass(frozen=True)
class Replays:
    """An endless list of samples from runs: a sub-history of a run up to some moment, and
    candidates from its trials after that. ``samples[i]`` depends on the fields and i alone.

    With `held_out` the candidates are a run's last trials, which no other sample has.
    """

    runs: Sequence[Replay]
    candidates: int
    seed: int
    held_out: bool = False

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index, int(self.held_out)])
        shares = np.array([len(run.codes) for run in self.runs], float)
        for _ in range(1000):
            run = self.runs[rng.choice(len(self.runs), p=shares / shares.sum())]
            if (sample := self._draw(run, rng)) is not None:
                return sample
        raise TrainingError(
            f"the trials of {', '.join(run.name for run in self.runs)} do not differ in their "
            "values: there is nothing to learn"
        )

    def _draw(self, run: Replay, rng: np.random.Generator) -> Sample | None:
        early = run.split(self.candidates)
        if self.held_out:
            moment, end = early, len(run.codes)
        else:
            moment, end = int(rng.integers(Replay.LEAST, early)), early
        after = moment + np.flatnonzero(~np.isnan(run.scores[moment:end]))
        if len(after) < self.candidates:
            return None
        chosen = rng.choice(after, size=self.candidates, replace=False)
        values = run.scores[chosen]
        if np.sum(values == values.max()) > 1:
            return None
        known = rng.choice(
            moment, size=int(rng.integers(Replay.LEAST, moment, endpoint=True)), replace=False
        )
        history = [
            (run.codes[i], None if np.isnan(run.scores[i]) else float(run.scores[i])) for i in known
        ]
        question = Question([run.codes[i] for i in chosen], values)
        return Sample(history, [question], run.name)
