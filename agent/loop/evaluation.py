"""Evaluations: of a step's picks, and of the finalists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lm_searcher.agent.context import Context
from lm_searcher.agent.loop.confirmation import confirmation_of, remaining
from lm_searcher.agent.loop.stopping import Interrupted
from lm_searcher.agent.study.records import Confirmation
from lm_searcher.spaces.ncode import NCode
from lm_searcher.tools.protocols import Evaluation


def evaluate_picks(
    context: Context, first: int, picks: Sequence[NCode], usage: Mapping[str, Any]
) -> None:
    """Evaluate the picks as trials `first`, `first` + 1, ...; each is stored as it ends.

    `usage` is what asking a model for all of them took; the first trial keeps it. Trials that an
    earlier process finished are not evaluated again. Raises Interrupted if the user asked to stop
    before all have finished.
    """
    steps: dict[int, int] = {}

    def report(evaluation: Evaluation, step: int, value: float) -> bool:
        steps[evaluation.key] = step
        stop = context.store.report(evaluation.key, step, value)
        return stop and step != context.epochs  # at the last epoch nothing is left to stop

    def evaluations() -> Iterator[Evaluation]:
        for number, ncode in enumerate(picks, start=first):
            if context.interrupted:
                return
            trial = context.start(number, ncode, usage if number == first else {})
            if not trial.state.finished:
                context.observe(trial)
                yield context.evaluation(number, ncode, trial.seed)

    assert context.executor is not None
    for evaluation, outcome in context.executor.run(evaluations(), report):
        fidelity = context.fidelity(outcome, steps.get(evaluation.key, 0))
        context.finish(evaluation.key, outcome, fidelity)
    trials = context.store.trials[first : first + len(picks)]
    if len(trials) < len(picks) or not all(trial.state.finished for trial in trials):
        raise Interrupted


def confirm_finalists(context: Context) -> None:
    """Train the finalists with fresh seeds; each result is stored as it comes, and never measured
    twice. Raises Interrupted if the user asked to stop."""
    tasks: list[tuple[int, int]] = []

    def evaluations() -> Iterator[Evaluation]:
        seeds = context.confirm.seeds
        for trial, repeat in remaining(
            context.confirm, context.store.trials, context.records, context.objectives
        ):
            if context.interrupted:
                return
            context.observe(f"confirming {trial.ncode} with fresh seed {repeat + 1} of {seeds}")
            tasks.append((trial.number, repeat))
            seed = context.trial_seed(trial.number, repeat)
            evaluation = context.evaluation(len(tasks) - 1, trial.ncode, seed)
            yield replace(evaluation, budget=dict(context.confirm.full))

    assert context.executor is not None
    context.begin_confirmations()
    for evaluation, outcome in context.executor.run(evaluations(), lambda *_: False):
        outcome = context.objectives.checked(outcome)
        record = confirmation_of(evaluation, outcome, context.objectives)
        context.store.write(Confirmation.key(*tasks[evaluation.key]), record)
    if context.interrupted:
        raise Interrupted
