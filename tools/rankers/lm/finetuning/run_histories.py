"""Training samples from finished runs: the candidates are trials that the run had later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import TrainingError
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import NCode, to_ncodes
from lm_searcher.tools.rankers.lm.finetuning.samples import CandidateSet, Sample


@dataclass(frozen=True)
class RunHistory:
    """The finished trials of a run, in order; higher scores are better, NaN is a failed trial."""

    MIN_HISTORY: ClassVar[int] = 5
    """The fewest trials of a history."""

    name: str
    codes: Sequence[NCode]
    scores: NDArray[np.float64]

    @classmethod
    def of(cls, name: str, history: History) -> Self:
        """The finished trials of `history`."""
        done = ~history.pending
        return cls(name, to_ncodes(history.codes[done]), history.scores[done])

    @property
    def scored(self) -> int:
        """The number of trials with a score."""
        return int(np.sum(~np.isnan(self.scores)))

    def split(self, candidates: int) -> int:
        """The number of first trials for training. The later ones are held out: a fifth of the
        scored trials, at least `candidates`."""
        scored = np.flatnonzero(~np.isnan(self.scores))
        later = max(candidates, len(scored) // 5)
        return int(scored[-later])

    @classmethod
    def needed(cls, candidates: int) -> int:
        """The fewest scored trials that a run must have."""
        return cls.MIN_HISTORY + 2 * candidates


@dataclass(frozen=True)
class RunHistorySamples:
    """An endless sequence of samples from runs; ``samples[i]`` depends on the fields and i only.

    A sample has a part of a run's trials up to some trial as history, and later trials as
    candidates. With `held_out` the candidates are the run's last trials, which occur in no
    other sample.
    """

    runs: Sequence[RunHistory]
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

    def _draw(self, run: RunHistory, rng: np.random.Generator) -> Sample | None:
        early = run.split(self.candidates)
        if self.held_out:
            start, end = early, len(run.codes)
        else:
            start, end = int(rng.integers(RunHistory.MIN_HISTORY, early)), early
        after = start + np.flatnonzero(~np.isnan(run.scores[start:end]))
        if len(after) < self.candidates:
            return None
        chosen = rng.choice(after, size=self.candidates, replace=False)
        values = run.scores[chosen]
        if np.sum(values == values.max()) > 1:
            return None
        known = rng.choice(
            start,
            size=int(rng.integers(RunHistory.MIN_HISTORY, start, endpoint=True)),
            replace=False,
        )
        history = [
            (run.codes[i], None if np.isnan(run.scores[i]) else float(run.scores[i])) for i in known
        ]
        candidate_set = CandidateSet([run.codes[i] for i in chosen], values)
        return Sample(history, [candidate_set], run.name)
