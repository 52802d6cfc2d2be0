"""What changes from step to step, and what does not.

The state holds ids, counters, the pool and the picks: nothing that grows with the run, because
each step writes it to the checkpoint. Trials live in the store.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import numpy as np

from lm_searcher.agent.loop.confirmation import Confirm
from lm_searcher.agent.loop.memory import Memory
from lm_searcher.agent.loop.requests import Requests
from lm_searcher.agent.loop.stopping import Budget
from lm_searcher.agent.study.trial_store import TrialStore
from lm_searcher.spaces.history import History, Trial
from lm_searcher.spaces.ncode import Codes, NCode
from lm_searcher.spaces.objectives import draw_weights
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.tools.proposer import Proposer
from lm_searcher.tools.protocols import Evaluation, Executor, Outcome, Ranker

STAGES = {"propose": 0, "rank": 1, "trial": 2, "confirm": 3, "weights": 4}


Observer = Callable[[Trial | str], None]
"""Told of each trial when it starts and when it has finished, and of all else in words."""


class State(TypedDict):
    """The position in the loop. Plain data only."""

    number: int
    """The next trial's number; every trial below it is finished."""
    pool: bytes
    """The candidates as uint8 [candidates, positions]; empty outside propose -> rank."""
    picks: list[NCode]
    """What is to be evaluated as trials `number`, `number` + 1, ..."""
    account: dict[str, Any]
    """What asking a model for the picks took; empty where none was asked."""
    allowed: list[str]
    """The subspace: the digits still allowed at each position."""
    pruned: list[list[int]]
    """[position, option] of every prune that stands, in order."""
    weighed: int
    """Finished trials when memory last weighed the evidence."""
    seconds: float
    """Wall-clock time spent in the loop, over all processes of the run."""
    stop: str
    """Why the search ends; empty while it goes on."""


@dataclass
class Context:
    """What a run's nodes work with; fixed for the life of a process."""

    space: SearchSpace
    store: TrialStore
    ranker: Ranker
    ranker_name: str
    proposer: Proposer
    executor: Executor | None = None
    """None while trials are only asked for and told."""
    seed: int = 0
    initial: int = 5
    """The number of random trials before the ranker is asked."""
    batch: int = 1
    """Trials picked, and evaluated, at a time."""
    budget: Budget = field(default_factory=Budget)
    memory: Memory = field(default_factory=Memory)
    confirm: Confirm = field(default_factory=Confirm)
    epochs: int | None = None
    """Reports of an evaluation at full fidelity, where they are known."""
    observe: Observer = lambda event: None
    requests: Requests | None = None
    """What a person asks of the run while it goes on; None: nothing is taken up."""
    forgiven: int = 0
    """Trials before the run was begun again after a stop by failures: those no longer count."""
    interrupted: bool = False
    """Set by Ctrl-C: start nothing more, leave after what runs."""

    _marked: float = field(default_factory=time.monotonic)

    def lap(self) -> float:
        """Seconds since the last call."""
        before, self._marked = self._marked, time.monotonic()
        return self._marked - before

    def rng(self, stage: Literal["propose", "rank", "weights"], number: int) -> np.random.Generator:
        """The generator of one step: a resumed run draws what an uninterrupted one would."""
        return np.random.default_rng([self.seed, number, STAGES[stage]])

    def history(self, number: int) -> History:
        """The trials below `number` as the ranker sees them when it picks trial `number`: of
        several objectives one score, with weights drawn for this step."""
        objectives = self.store.objectives
        if not objectives.several:
            return self.store.history(number)
        weights = draw_weights(len(objectives.goals), self.rng("weights", number))
        return self.store.history(number, weights)

    def trial_seed(self, number: int, repeat: int | None = None) -> int:
        """The seed of a trial's training, or of its `repeat`-th confirmation."""
        parts = [self.seed, number, STAGES["trial"]]
        if repeat is not None:
            parts = [self.seed, number, STAGES["confirm"], repeat]
        return int(np.random.SeedSequence(parts).generate_state(1)[0] >> 1)

    def subspace(self, state: State) -> Subspace:
        """The state's subspace."""
        return Subspace(self.space, tuple(state["allowed"]))

    def pool(self, state: State) -> Codes:
        """The state's pool, shape [candidates, positions]."""
        return np.frombuffer(state["pool"], np.uint8).reshape(-1, len(self.space.positions))

    def evaluation(self, key: int, ncode: NCode, seed: int) -> Evaluation:
        """What an evaluator gets of an architecture."""
        return Evaluation(key, ncode, self.space.decode(ncode), seed)

    def fidelity(self, outcome: Outcome, steps: int) -> float:
        """The share of the full budget behind an outcome."""
        return steps / self.epochs if outcome.stopped and self.epochs else 1.0
