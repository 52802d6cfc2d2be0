"""Confirmations as evaluations: the finalists are trained again, as many as there is room for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lm_searcher.agent.context import Context
from lm_searcher.agent.loop.confirmation import confirmation_of, remaining
from lm_searcher.agent.loop.evaluation import POLL_SECONDS, lost_for_good
from lm_searcher.agent.study.records import Confirmation
from lm_searcher.tools.executors.protocol import Ended
from lm_searcher.tools.protocols import Evaluation

_REPEATS = 10**6


@dataclass(frozen=True)
class Task:
    """One training of a finalist with a fresh seed."""

    number: int
    """The trial's number."""
    repeat: int
    evaluation: Evaluation
    attempt: int = 1


def submit(context: Context) -> None:
    """Begin as many confirmations as there is room for; none is measured twice."""
    if context.confirmations is None:
        context.confirmations = _tasks(context)
    tasks, repeats = context.confirmations, context.confirm.seeds
    waiting = [key for key in tasks if key not in context.under_way]
    for key in waiting[: context.room()]:
        task = tasks[key]
        context.observe(
            f"confirming {task.evaluation.ncode} with fresh seed {task.repeat + 1} of {repeats}"
        )
        context.begin(task.evaluation, task.attempt)


def collect(context: Context) -> None:
    """Store the confirmations that have ended since the last look.

    Raises Cancelled once the time after Ctrl-C is over.
    """
    assert context.confirmations is not None
    events = context.poll(POLL_SECONDS)
    if any(isinstance(event, Ended) for event in events):
        with context.store.tick():
            for event in events:
                if isinstance(event, Ended) and _is_news(context, event):
                    del context.under_way[event.key]
                    _record(context, context.confirmations[event.key], event)


def _is_news(context: Context, event: Ended) -> bool:
    """Whether nothing has been heard of the end: neither of this one, nor of a later attempt."""
    if event.key not in context.under_way or context.confirmations is None:
        return False
    return event.outcome is not None or event.attempt >= context.confirmations[event.key].attempt


def _record(context: Context, task: Task, event: Ended) -> None:
    """Store a confirmation, or have it measured again where its place was lost."""
    tasks = context.confirmations
    assert tasks is not None
    outcome = event.outcome or lost_for_good(task.attempt, event.lost)
    if outcome is None:
        tasks[event.key] = replace(task, attempt=task.attempt + 1)
        return
    checked = context.objectives.checked(outcome)
    record = confirmation_of(task.evaluation, checked, context.objectives)
    context.store.write(Confirmation.key(task.number, task.repeat), record)
    del tasks[event.key]


def _tasks(context: Context) -> dict[int, Task]:
    """What is left to confirm, by the key of its evaluation."""
    context.begin_confirmations()
    tasks = {}
    for trial, repeat in remaining(
        context.confirm, context.store.trials, context.records, context.objectives
    ):
        key = -1 - (trial.number * _REPEATS + repeat)
        seed = context.trial_seed(trial.number, repeat)
        evaluation = context.evaluation(key, trial.ncode, seed)
        full = replace(evaluation, budget=dict(context.confirm.full))
        tasks[key] = Task(trial.number, repeat, full)
    return tasks
