"""The search as a LangGraph state machine.

    START -> remember -> propose -> rank -> evaluate -> remember ... -> confirm -> END

Each node is a function of the state and of the store's trials below `number`, so a node that is
replayed after a crash does what it did before: only trials that were cut short run again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from lm_searcher.agent.context import Context
from lm_searcher.agent.loop.confirmation import confirmation_of, remaining
from lm_searcher.agent.loop.stopping import Interrupted, find_stop
from lm_searcher.agent.state import State
from lm_searcher.agent.study.records import Confirmation
from lm_searcher.agent.study.stop import Stop, StopReason
from lm_searcher.tools.protocols import Evaluation

Update = dict[str, Any]


def remember(state: State, runtime: Runtime[Context]) -> Update:
    """Weigh the evidence, prune or widen the subspace, and decide whether to go on."""
    context = runtime.context
    if context.interrupted:
        raise Interrupted
    history = context.store.history(state["number"])
    context.weigh(history)
    context.keep_time()
    stop = find_stop(
        context.budget,
        history,
        context.store.trials,
        context.objectives,
        seconds=context.seconds,
        forgiven=context.forgiven,
        extra=context.requests.extra,
    )
    return {"stop": stop.document if stop else {}}


def propose(state: State, runtime: Runtime[Context]) -> Update:
    """Take up users' requests and draw the candidate pool; no candidate: exhausted."""
    context = runtime.context
    history = context.history(state["number"])
    context.take_up(history, context.batch)
    proposal = context.propose(history, context.findings)
    context.findings = proposal.findings
    update: Update = {"pool": proposal.pool.tobytes(), "picks": proposal.requested}
    if not proposal.requested and not len(proposal.pool):
        stop = Stop(reason=StopReason.EXHAUSTED, detail=context.proposer.exception)
        update["stop"] = stop.document
    return update


def rank(state: State, runtime: Runtime[Context]) -> Update:
    """Ask the ranker for the best of the pool, beside the picks that users requested."""
    context, number = runtime.context, state["number"]
    if begun := context.store.trials[number : number + context.batch]:  # before a crash
        return {"pool": b"", "picks": [trial.ncode for trial in begun], "usage": {}}
    # A run that goes on with a smaller budget may be beyond it already.
    left = (context.budget.trials or number + context.batch) - number
    pool = np.frombuffer(state["pool"], np.uint8).reshape(-1, len(context.space.positions))
    selection = context.select(
        pool, context.history(number), state["picks"], min(context.batch, left)
    )
    return {"pool": b"", "picks": selection.picks, "usage": selection.usage}


def evaluate(state: State, runtime: Runtime[Context]) -> Update:
    """Train and measure the picks, each as a trial of its own; a failure is a result."""
    context, first = runtime.context, state["number"]
    steps: dict[int, int] = {}

    def report(evaluation: Evaluation, step: int, value: float) -> bool:
        steps[evaluation.key] = step
        stop = context.store.report(evaluation.key, step, value)
        return stop and step != context.epochs  # at the last epoch nothing is left to stop

    def evaluations() -> Iterator[Evaluation]:
        for number, ncode in enumerate(state["picks"], start=first):
            if context.interrupted:
                return
            usage = state.get("usage", {}) if number == first else {}
            trial = context.start(number, ncode, usage)
            if not trial.state.finished:
                context.observe(trial)
                yield context.evaluation(number, ncode, trial.seed)

    assert context.executor is not None
    for evaluation, outcome in context.executor.run(evaluations(), report):
        fidelity = context.fidelity(outcome, steps.get(evaluation.key, 0))
        context.finish(evaluation.key, outcome, fidelity)
    after = first + len(state["picks"])
    trials = context.store.trials[first:after]
    if len(trials) < after - first or not all(trial.state.finished for trial in trials):
        raise Interrupted
    return {"number": after, "picks": []}


def confirm(state: State, runtime: Runtime[Context]) -> Update:
    """Train the best again with fresh seeds, so that luck does not name the incumbent."""
    context = runtime.context
    stop = Stop.of(state["stop"])
    tasks: list[tuple[int, int]] = []

    def evaluations() -> Iterator[Evaluation]:
        for trial, repeat in remaining(
            context.confirm, context.store.trials, context.records, context.objectives
        ):
            if context.interrupted:
                return
            seeds = context.confirm.seeds
            context.observe(f"confirming {trial.ncode} with fresh seed {repeat + 1} of {seeds}")
            tasks.append((trial.number, repeat))
            seed = context.trial_seed(trial.number, repeat)
            evaluation = context.evaluation(len(tasks) - 1, trial.ncode, seed)
            yield replace(evaluation, budget=dict(context.confirm.full))

    if stop is not None and stop.failed:
        return {}
    assert context.executor is not None
    context.begin_confirmations()
    for evaluation, outcome in context.executor.run(evaluations(), lambda *_: False):
        outcome = context.objectives.checked(outcome)
        record = confirmation_of(evaluation, outcome, context.objectives)
        context.store.write(Confirmation.key(*tasks[evaluation.key]), record)
    if context.interrupted:
        raise Interrupted
    return {}


def proceed(state: State) -> Literal["rank", "confirm"]:
    """Onwards, unless there is nothing left to try."""
    return "confirm" if state["stop"] else "rank"


def decide(state: State) -> Literal["propose", "confirm"]:
    """Once more around, or the end."""
    return "confirm" if state["stop"] else "propose"


def build_graph() -> StateGraph[State, Context, State, State]:
    """The search, to be compiled with a checkpointer and invoked with a Context."""
    graph = StateGraph(State, context_schema=Context)
    for node in (remember, propose, rank, evaluate, confirm):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "remember")
    graph.add_conditional_edges("remember", decide)
    graph.add_conditional_edges("propose", proceed)
    graph.add_edge("rank", "evaluate")
    graph.add_edge("evaluate", "remember")
    graph.add_edge("confirm", END)
    return graph
