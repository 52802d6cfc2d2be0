"""Ask and tell: the loop's steps for trials that the user evaluates."""

from __future__ import annotations

from lm_searcher.agent.context import Context
from lm_searcher.agent.study.events import Ask
from lm_searcher.spaces.errors import ConfigError, TrialFailure
from lm_searcher.spaces.history import Trial
from lm_searcher.tools.executors.outcome_check import checked_metrics
from lm_searcher.tools.protocols import Evaluation, Metrics, Outcome


def ask(context: Context, n: int) -> list[Evaluation]:
    """The next `n` architectures to measure, fewer if the space has no more; see Search.ask."""
    context.weigh(context.store.history())
    history = context.history(len(context.store))
    context.take_up(history, n)
    proposal = context.propose(history, context.findings)
    context.findings = proposal.findings
    selection = context.select(proposal.pool, history, proposal.requested, n)
    store, first = context.store, len(context.store)
    with store.tick():
        if selection.picks:
            store.log(Ask(first=first, n=n, ncodes=selection.picks))
        trials = []
        for number, ncode in enumerate(selection.picks, start=first):
            took = selection.usage if number == first else {}  # of a batch, the first trial has it
            store.add(ncode, context.trial_seed(number), context.ranker_name, took)
            trials.append(store.begin(number))
    for trial in trials:
        context.observe(trial)
    return [context.evaluation(trial.number, trial.ncode, trial.seed) for trial in trials]


def tell(
    context: Context, number: int, value: float | Metrics | None, failed: str | None, seconds: float
) -> Trial:
    """Store the result of trial `number`; see Search.tell. Raises ConfigError, EvaluatorError."""
    store = context.store
    if not 0 <= number < len(store) or store.trials[number].state.finished:
        raise ConfigError(f"trial {number} is not pending: ask first, and tell once")
    outcome = Outcome({}, seconds, failed)
    if failed is None:
        try:
            outcome = Outcome(checked_metrics(value, context.objectives.metric), seconds)
        except TrialFailure as failure:
            outcome = Outcome({}, seconds, str(failure))
    finished = context.finish(number, outcome)
    context.observe(finished)
    if not store.pending:  # as after a run's batch
        context.weigh(store.history())
    return finished
