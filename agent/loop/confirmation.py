"""Confirmation: the best trials are trained again with fresh seeds.

The best of many noisy measurements is too good to be true. The incumbent is chosen among the
confirmed finalists (results/incumbent.py); with several objectives the finalists are the trials
that hold most of the front's hypervolume (results/front.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lm_searcher.agent.results.front import finalists
from lm_searcher.agent.results.incumbent import best_trials
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.records import Confirmation, RunRecords
from lm_searcher.spaces.history import Trial
from lm_searcher.tools.protocols import Evaluation, Outcome


@dataclass(frozen=True)
class Confirm:
    """How the incumbent is named: the `top` best, each trained with `seeds` fresh seeds."""

    top: int = 3
    seeds: int = 2
    full: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the evaluator at full fidelity, where the search uses others."""


def remaining(
    confirm: Confirm, trials: Sequence[Trial], records: RunRecords, objectives: ObjectiveSet
) -> Iterator[tuple[Trial, int]]:
    """Each finalist and repeat that has not been confirmed yet at the run's full fidelity."""
    if not confirm.top:
        return
    chosen = (
        finalists(trials, objectives, confirm.top)
        if objectives.several
        else best_trials(trials, objectives.sign, confirm.top)
    )
    for trial in chosen:
        for repeat in range(confirm.seeds):
            if Confirmation.key(trial.number, repeat) not in records.confirmations:
                yield trial, repeat


def confirmation_of(
    evaluation: Evaluation, outcome: Outcome, objectives: ObjectiveSet
) -> Confirmation:
    """The record of one confirmation: its metrics, or why it failed."""
    given: dict[str, Any] = {"seed": evaluation.seed, "seconds": round(outcome.seconds, 4)}
    if evaluation.budget:
        given["budget"] = dict(evaluation.budget)
    if outcome.reason is not None:
        return Confirmation(**given, reason=outcome.reason)
    value = outcome.metrics[objectives.metric]
    return Confirmation(**given, metrics=dict(outcome.metrics), value=value)
