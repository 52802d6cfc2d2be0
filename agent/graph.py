"""The search as a LangGraph state machine.

    START -> remember -> propose -> rank -> evaluate -> remember ... -> confirm -> END

Each node is a function of the state and of the store's trials below `number`, so a node that is
replayed after a crash does what it did before: only trials that were cut short run again.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from lm_searcher.agent.context import Context
from lm_searcher.agent.loop.evaluation import confirm_finalists, evaluate_picks
from lm_searcher.agent.loop.stopping import Interrupted, find_stop
from lm_searcher.agent.state import State
from lm_searcher.agent.study.stop import Stop, StopReason

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
    picks = state["picks"]
    evaluate_picks(runtime.context, state["number"], picks, state.get("usage", {}))
    return {"number": state["number"] + len(picks), "picks": []}


def confirm(state: State, runtime: Runtime[Context]) -> Update:
    """Train the best again with fresh seeds, so that luck does not name the incumbent."""
    stop = Stop.of(state["stop"])
    if stop is None or not stop.failed:
        confirm_finalists(runtime.context)
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
