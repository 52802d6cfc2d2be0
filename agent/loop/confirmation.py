"""Confirmation: the best trials are trained again with fresh seeds.

The best of many noisy measurements is too good to be true. The incumbent is chosen among the
confirmed finalists (results/incumbent.py); with several objectives the finalists are the trials
that hold most of the front's hypervolume (results/front.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from lm_searcher.agent.results.front import finalists
from lm_searcher.agent.results.incumbent import best_trials
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.records import Confirmation
from lm_searcher.agent.study.run_records import RunRecords
from lm_searcher.spaces.history import Trial
from lm_searcher.spaces.settings import Count, CountOrZero, Positive, SettingsModel, Share
from lm_searcher.tools.protocols import Evaluation, Outcome

DEFAULT_TOP = 3


class Confirm(SettingsModel):
    """[confirm]: the best architectures are measured again with fresh seeds, which decides on the
    incumbent."""

    ROLE: ClassVar = "confirm"

    top: CountOrZero | None = None
    """How many of the best are confirmed. Default: 3, or 0 where the evaluator is deterministic
    and no full fidelity is given."""
    seeds: Count = 2
    """Fresh seeds for each of them."""
    epochs: Count | None = None
    """Full fidelity of the confirmations, where the search trains for fewer epochs."""
    data_fraction: Share | None = None
    """Full fidelity: share of the training data."""
    width: Positive | None = None
    """Full fidelity: factor on the space's `channels`."""
    budget: Positive | None = None
    """Full fidelity of the user's own function or command."""

    @property
    def full(self) -> dict[str, Any]:
        """Settings of the evaluator at full fidelity, where the search uses others."""
        return self.model_dump(exclude={"top", "seeds"}, exclude_none=True)

    def for_evaluator(self, deterministic: bool) -> Confirm:
        """With the default of `top` filled in."""
        top = 0 if deterministic and not self.full else DEFAULT_TOP
        return self if self.top is not None else self.changed(top=top)


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
