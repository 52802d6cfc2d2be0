"""The two halves of the tool node: evaluations are submitted, and what has ended is collected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_searcher.agent.context import Context
from lm_searcher.agent.loop.tool_calls import EvaluateNCode, ToolCall
from lm_searcher.agent.study.events import Ask
from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.spaces.history import Trial
from lm_searcher.tools.executors.protocol import Began, Ended, Event, Reported
from lm_searcher.tools.protocols import Outcome

MOST_ATTEMPTS = 3
"""Places that an evaluation may lose before its trial fails."""

POLL_SECONDS = 1.0
"""The longest wait without a look at requests, limits and signals."""


def submit(
    context: Context, calls: Sequence[ToolCall], wanted: int, usage: Mapping[str, Any]
) -> None:
    """Record the decision and its trials in one transaction, and only then begin as many waiting
    trials as there is room for.

    `wanted` is how many picks were asked for; `usage`, what asking a model for all of them took:
    the first trial keeps it.
    """
    store, first = context.store, len(context.store)
    picks = [EvaluateNCode.model_validate(call["args"]) for call in calls]
    with store.tick():
        if picks:
            store.log(Ask(first=first, n=wanted, ncodes=[pick.ncode for pick in picks]))
        for number, pick in enumerate(picks, start=first):
            seed = context.trial_seed(number) if pick.seed is None else pick.seed
            took = usage if number == first else {}
            store.add(pick.ncode, seed, context.ranker_name, took)
        begun = [store.begin(number) for number in store.waiting[: context.room()]]
    for trial in begun:
        context.observe(trial)
        context.begin(context.evaluation(trial.number, trial.ncode, trial.seed), trial.attempt)


def collect(context: Context) -> None:
    """Record in one transaction what became of evaluations since the last look.

    Raises EvaluatorError for an evaluator that does not give the objectives' metrics, and
    Cancelled once the time after Ctrl-C is over.
    """
    events = context.poll(POLL_SECONDS)
    while events:
        _record_all(context, events)
        if not any(isinstance(event, Reported) for event in events):
            return
        events = context.poll(0)  # a training waits for the answer to its report


def _record_all(context: Context, events: Sequence[Event]) -> None:
    news: list[Trial | str] = []
    error: EvaluatorError | None = None
    with context.store.tick():
        for event in events:
            try:
                news += _record(context, event)
            except EvaluatorError as missing:  # what else has ended is kept
                error = missing
    for each in news:
        context.observe(each)
    if error is not None:
        raise error


def _record(context: Context, event: Event) -> list[Trial | str]:
    """Store one event; the trial that has changed by it, and what else is to be told."""
    store, key = context.store, event.key
    if key not in context.under_way or store[key].state.finished:
        return []  # a second completion: the first counts
    if isinstance(event, Ended) and event.outcome is None and event.attempt < store[key].attempt:
        return []  # an earlier place, whose loss is known
    if isinstance(event, Began):
        return [store.place(key, event.place)] if event.place else []
    if isinstance(event, Reported):
        context.under_way[key] = event.step
        stop = store.report(key, event.step, event.value)
        if stop and event.step != context.epochs:  # at the last epoch nothing is left to stop
            assert context.executor is not None
            context.executor.stop(key)
        return []
    steps = context.under_way.pop(key)
    outcome = event.outcome or lost_for_good(store[key].attempt, event.lost)
    if outcome is not None:
        return [context.finish(key, outcome, context.fidelity(outcome, steps))]
    lost = f"trial {key} has lost its place ({event.lost}): it is evaluated again"
    return [store.lose(key, event.lost), lost]


def lost_for_good(attempt: int, lost: str) -> Outcome | None:
    """The failure of an evaluation that has lost its last place; None if it has another try."""
    if attempt < MOST_ATTEMPTS:
        return None
    return Outcome({}, 0.0, f"lost its place {attempt} times, the last: {lost}")
