"""Pre-training data: steps of simulated searches on random tasks, generated on demand."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lm_searcher.tools.rankers.incontext.pretraining.searches import Episode, Searches

LIMITS = (
    ({"max_positions": 20, "max_options": 8}, 0.8),
    ({"max_positions": 10, "max_options": 20}, 0.08),
    ({"max_positions": 5, "max_options": 36}, 0.02),
    ({"min_positions": 20, "max_positions": 64, "max_options": 5}, 0.1),
)
"""Sizes of spaces, and the probability of each. A batch has one size, to need little padding."""


def random_limits(rng: np.random.Generator) -> dict[str, int]:
    """Draw one of LIMITS."""
    return LIMITS[rng.choice(len(LIMITS), p=[share for _, share in LIMITS])][0]


class Episodes(IterableDataset[Episode]):
    """An endless stream of training batches of about `tokens` trials and candidates each.

    `under_way` batches of searches are kept at any time, with at most `max_trials` trials each
    and about `rounds` episodes. An episode is one step of a batch, with `candidates` candidates.
    """

    def __init__(
        self,
        seed: int,
        tokens: int,
        candidates: int = 64,
        max_trials: int = 200,
        rounds: int = 8,
        under_way: int = 8,
    ) -> None:
        super().__init__()
        self.seed, self.tokens, self.candidates = seed, tokens, candidates
        self.max_trials, self.rounds, self.under_way = max_trials, rounds, under_way

    def __iter__(self) -> Iterator[Episode]:
        worker = get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        if worker:
            torch.set_num_threads(1)
        searches: list[Searches] = []
        while True:
            if len(searches) < self.under_way:
                searches.append(self._begin(rng))
            search = searches.pop(int(rng.integers(len(searches))))
            with torch.no_grad():
                share = float(rng.choice([0.0, 0.5, rng.random()]))
                large = rng.random() < 0.6
                pools = search.candidate_pools((3 if large else 1) * self.candidates, share)
                episode = search.episode(pools, self.candidates)
                more = max(1, int(search.trials * rng.uniform(0.03, 0.4)))
                room = min(self.max_trials - search.trials, self.candidates)
                if more <= room and rng.random() > 1 / self.rounds:
                    search.advance(pools, more)
                    searches.append(search)
            yield episode

    def _begin(self, rng: np.random.Generator) -> Searches:
        limits = random_limits(rng)
        most = self.max_trials if rng.random() < 0.4 else 20
        trials = int(np.exp(rng.uniform(np.log(3), np.log(most + 1))))
        batch = max(4, self.tokens // (int(1.5 * trials) + self.candidates))
        return Searches(rng, batch, trials, **limits)


def stream(episodes: Episodes, workers: int) -> Iterator[Episode]:
    """The episodes from worker processes; with 0 workers, from this process."""
    return iter(
        DataLoader(
            episodes,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_ignore_ctrl_c,
        )
    )


def _ignore_ctrl_c(worker: int) -> None:
    """Ctrl-C reaches the workers too; the training ends them itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
