"""The search as a LangGraph state machine.

    START -> propose -> rank -> evaluate -> remember -> propose ... -> confirm -> END

Each node is a function of the state and of the store's trials below `number`, so a node that is
replayed after a crash does what it did before: only trials that were cut short run again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from lm_searcher.agent.loop.confirmation import confirm_top
from lm_searcher.agent.loop.memory import Findings
from lm_searcher.agent.loop.selection import draw, pick, take_up, weigh
from lm_searcher.agent.loop.stopping import FAILURES, Interrupted, stop_reason
from lm_searcher.agent.state import Context, State
from lm_searcher.tools.protocols import Evaluation

Update = dict[str, Any]


def propose(state: State, runtime: Runtime[Context]) -> Update:
    """Draw the candidate pool, after what a person asked for; no candidate: exhausted."""
    context, number = runtime.context, state["number"]
    before = Findings(context.subspace(state), state["pruned"], state["weighed"])
    findings, asked, history = take_up(context, context.history(number), before)
    pool = draw(context, history, findings.subspace, number)
    return {
        "pool": pool.tobytes(),
        "picks": asked,
        "allowed": list(findings.subspace.allowed),
        "pruned": findings.pruned,
        "stop": "" if asked or len(pool) else context.proposer.exhausted,
    }


def rank(state: State, runtime: Runtime[Context]) -> Update:
    """Ask the ranker for the best of the pool, beside the picks that a person asked for."""
    context, number = runtime.context, state["number"]
    if begun := context.store.trials[number : number + context.batch]:  # before a crash
        return {"pool": b"", "picks": [trial.ncode for trial in begun], "account": {}}
    left = (context.budget.trials or number + context.batch) - number
    asked = state["picks"]
    history = context.history(number).with_pending(context.space.codes(asked))
    # A run that goes on with a smaller budget may be beyond it already.
    most = max(0, min(context.batch, left) - len(asked))
    picks, account = pick(context, context.pool(state), history, most)
    return {"pool": b"", "picks": asked + picks, "account": account}


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
            seed = context.trial_seed(number)
            account = state.get("account", {}) if number == first else {}
            trial = context.store.start(number, ncode, seed, context.ranker_name, account)
            if not trial.state.finished:
                context.observe(trial)
                yield context.evaluation(number, ncode, seed)

    assert context.executor is not None
    for evaluation, outcome in context.executor.run(evaluations(), report):
        fidelity = context.fidelity(outcome, steps.get(evaluation.key, 0))
        trial = context.store.finish(evaluation.key, outcome, fidelity)
        context.observe(trial)
    after = first + len(state["picks"])
    trials = context.store.trials[first:after]
    if len(trials) < after - first or not all(trial.state.finished for trial in trials):
        raise Interrupted
    return {"number": after, "picks": [], "seconds": state["seconds"] + context.lap()}


def remember(state: State, runtime: Runtime[Context]) -> Update:
    """Weigh the evidence, prune or widen the subspace, and decide whether to go on."""
    context = runtime.context
    if context.interrupted:
        raise Interrupted
    history = context.store.history(state["number"])
    before = Findings(context.subspace(state), state["pruned"], state["weighed"])
    findings = weigh(context, history, before)
    return {
        "allowed": list(findings.subspace.allowed),
        "pruned": findings.pruned,
        "weighed": findings.weighed,
        "stop": stop_reason(context, history, state["seconds"]),
    }


def confirm(state: State, runtime: Runtime[Context]) -> Update:
    """Train the best again with fresh seeds, so that luck does not name the incumbent."""
    if FAILURES not in state["stop"]:
        confirm_top(runtime.context)
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
    for node in (propose, rank, evaluate, remember, confirm):
        graph.add_node(node.__name__, node)
    graph.add_conditional_edges(START, decide)
    graph.add_conditional_edges("propose", proceed)
    graph.add_edge("rank", "evaluate")
    graph.add_edge("evaluate", "remember")
    graph.add_conditional_edges("remember", decide)
    graph.add_edge("confirm", END)
    return graph
