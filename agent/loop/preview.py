"""What a stored run would do next, without a change to it.

Goes through the same selection as the run itself: memory, waiting requests, pool, ranking.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lm_searcher.agent.loop.memory import remembered
from lm_searcher.agent.loop.requests import Requests
from lm_searcher.agent.problem import Problem
from lm_searcher.agent.results.result import Result
from lm_searcher.spaces.history import TrialState
from lm_searcher.spaces.ncode import Codes, NCode, to_ncodes


@dataclass(frozen=True)
class Preview:
    """The next step of a run."""

    picks: list[NCode]
    """What the run would evaluate next, a batch at a time."""
    place: int
    """The place of the architecture that was asked about in the order of preference, from 1."""
    candidates: int
    """How many candidates stand in that order."""
    initial: bool
    """Whether the order is random, because the ranker is not asked yet."""


def preview(problem: Problem, result: Result, ncode: NCode) -> Preview:
    """The run's next picks, and the place of `ncode` among its candidates.

    An architecture outside the pool is ranked beside it. Raises NCodeError for one that is no
    NCode of the space, or is known to break a constraint.
    """
    space, objectives, records = problem.space, problem.objectives, result.records
    code = space.codes([space.check(ncode)])
    feasibility = problem.proposer.feasibility
    if feasibility is not None:
        feasibility.check(ncode)
    trials = list(result.trials)
    requests = Requests.of(problem.files, space, records.requests(), feasibility)
    selector = problem.selector(requests)
    findings = remembered(space, records.settled(), records.weighed)
    findings, _ = selector.revise(objectives.history(space, trials), findings)
    history = objectives.history(space, trials, selector.weights(len(trials)))
    alone = not problem.settings.executor.awaits_batch and bool(history.pending.any())
    wanted = 1 if alone else selector.batch or 1  # one free place, or all of them
    selector.requests = requests.preview(history, findings, wanted)
    proposal = selector.propose(history, findings)
    chosen = selector.select(proposal.pool, history, proposal.requested, wanted)
    initial = len(history) + len(proposal.requested) < selector.initial
    order = chosen.order
    place = _place(problem, order, ncode)
    if place is None:  # outside the pool
        beside = np.concatenate([proposal.pool, code])
        order = selector.select(beside, history, proposal.requested, wanted).order
        place = _place(problem, order, ncode)
        assert place is not None
    same = space.canonical(ncode)
    first = [space.canonical(pick) for pick in chosen.picks]
    if same in first:  # requests, and a batch's picks, may differ from the plain order
        place = first.index(same)
    cut_short = [t.ncode for t in trials if t.state is TrialState.WAITING]  # they run again first
    return Preview(cut_short or chosen.picks, place + 1, len(order), initial)


def _place(problem: Problem, order: Codes, ncode: NCode) -> int | None:
    """Where an architecture stands in an order, under whichever code; None if it does not."""
    same = problem.space.canonical(ncode)
    classes = map(problem.space.canonical, to_ncodes(order))
    return next((i for i, other in enumerate(classes) if other == same), None)
