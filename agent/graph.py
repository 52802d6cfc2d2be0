"""The search as a LangGraph state machine.

    START -> collect -> remember -> propose -> rank -> submit -> collect ... -> confirm -> END

An agent loop with tool calls: `rank` answers with calls of `evaluate_ncode`, and `submit` and
`collect` are the two halves of the tool node. `submit` hands evaluations to the executor and
returns; `collect` records what has ended. So a place that becomes free has its next trial at once.
The store is the truth: a process begins at START, wherever the last one ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime

from lm_searcher.agent.context import Context
from lm_searcher.agent.loop import confirmation_runs, evaluation
from lm_searcher.agent.loop.stopping import find_stop
from lm_searcher.agent.loop.tool_calls import evaluate_call
from lm_searcher.agent.state import State
from lm_searcher.agent.study.stop import Stop, StopReason

Update = dict[str, Any]
Node = Callable[[Context, State], Update]


def collect(context: Context, state: State) -> Update:
    """Wait for news of the evaluations, and record in one transaction what has ended."""
    evaluation.collect(context)
    return {}


def remember(context: Context, state: State) -> Update:
    """Weigh the evidence, prune or widen the subspace, and decide whether to go on."""
    store, history = context.store, context.store.history()
    if context.asynchronous or not store.pending:  # else a batch's order of completion would count
        context.weigh(history)
    context.keep_time()
    stop = find_stop(
        context.budget,
        history,
        store.trials,
        context.objectives,
        seconds=context.seconds,
        forgiven=context.forgiven,
    )
    return {"stop": stop.document if stop else {}, "wanted": context.wanted(stop)}


def propose(context: Context, state: State) -> Update:
    """Take up users' requests and draw the candidate pool; no candidate: exhausted."""
    number = len(context.store)
    history = context.history(number)
    context.take_up(history, state["wanted"])
    proposal = context.propose(history, context.findings)
    context.findings = proposal.findings
    calls = [evaluate_call(number + i, ncode) for i, ncode in enumerate(proposal.requested)]
    update: Update = {"pool": proposal.pool.tobytes(), "calls": calls}
    if not calls and not len(proposal.pool) and not state["stop"]:
        stop = Stop(reason=StopReason.EXHAUSTED, detail=context.proposer.exception)
        update["stop"] = stop.document
    return update


def rank(context: Context, state: State) -> Update:
    """Ask the ranker for the best of the pool, beside the picks that users requested."""
    number = len(context.store)
    pool = np.frombuffer(state["pool"], np.uint8).reshape(-1, len(context.space.positions))
    requested = [call["args"]["ncode"] for call in state["calls"]]
    wanted = 0 if state["stop"] else state["wanted"]  # after the end, users' requests only
    selection = context.select(pool, context.history(number), requested, wanted)
    seeds = context.requests.seeds(number)
    calls = [
        evaluate_call(number + i, ncode, seeds.get(ncode, context.trial_seed(number + i)))
        for i, ncode in enumerate(selection.picks)
    ]
    asked = wanted if calls else 0
    return {"pool": b"", "calls": calls, "wanted": asked, "usage": selection.usage}


def submit(context: Context, state: State) -> Update:
    """Record the picks as trials in one transaction, and hand to the executor what it has room
    for."""
    evaluation.submit(context, state["calls"], state["wanted"], state["usage"])
    return {"calls": [], "usage": {}, "wanted": 0 if state["calls"] else state["wanted"]}


def confirm(context: Context, state: State) -> Update:
    """Train the best again with fresh seeds, so that luck does not name the incumbent."""
    stop = Stop.of(state["stop"])
    if stop is None or not stop.failed:
        confirmation_runs.submit(context)
        confirmation_runs.collect(context)
    return {}


class _GraphNode(Protocol):
    """A node as LangGraph calls it."""

    def __call__(self, state: State, *, runtime: Runtime[Context]) -> Update: ...


def _node(act: Node) -> _GraphNode:
    """A node of the graph; what it tells goes to the graph's custom stream too.

    The driver takes its news from the observer: to subscribe to the stream as well would run each
    node in a thread of its own (measured: 2.3 ms a round instead of 0.8).
    """

    def node(state: State, *, runtime: Runtime[Context]) -> Update:
        with runtime.context.streaming(runtime.stream_writer):
            return act(runtime.context, state)

    return node


def after_remember(
    state: State, runtime: Runtime[Context]
) -> Literal["propose", "submit", "collect", "confirm"]:
    """Trials that wait for a place first: they cost no time. Then the next picks."""
    onwards = _without_picks(state, runtime.context)
    return "propose" if state["wanted"] and onwards != "submit" else onwards


def after_propose(
    state: State, runtime: Runtime[Context]
) -> Literal["rank", "submit", "collect", "confirm"]:
    """Onwards, unless there is nothing left to try."""
    if state["calls"] or not state["stop"]:
        return "rank"
    return _without_picks(state, runtime.context)


def _without_picks(state: State, context: Context) -> Literal["submit", "collect", "confirm"]:
    """Trials that wait for a place, then those that run; at the end, the confirmation."""
    if context.store.waiting and context.room():
        return "submit"
    return "confirm" if state["stop"] and not context.store.pending else "collect"


def after_submit(state: State) -> Literal["propose", "collect"]:
    """The next picks, if so far only trials that waited were submitted."""
    return "propose" if state["wanted"] else "collect"


def after_confirm(state: State, runtime: Runtime[Context]) -> Literal["confirm", "__end__"]:
    """Once more, until every finalist is confirmed."""
    return "confirm" if runtime.context.unconfirmed else "__end__"


def build_graph() -> StateGraph[State, Context, State, State]:
    """The search, to be compiled and invoked with a Context."""
    graph = StateGraph(State, context_schema=Context)
    for act in (collect, remember, propose, rank, submit, confirm):
        graph.add_node(act.__name__, _node(act))
    graph.add_edge(START, "collect")
    graph.add_edge("collect", "remember")
    graph.add_conditional_edges("remember", after_remember)
    graph.add_conditional_edges("propose", after_propose)
    graph.add_edge("rank", "submit")
    graph.add_conditional_edges("submit", after_submit)
    graph.add_conditional_edges("confirm", after_confirm)
    return graph
