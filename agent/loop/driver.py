"""Driving the graph: from wherever the store says the run stands to its end."""

from __future__ import annotations

import contextlib
import logging

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained

from lm_searcher.agent.context import Context
from lm_searcher.agent.graph import build_graph
from lm_searcher.agent.loop import confirmation_runs, evaluation
from lm_searcher.agent.loop.stopping import Interrupted
from lm_searcher.agent.state import BEGINNING
from lm_searcher.agent.study.stop import Ending, Stop
from lm_searcher.spaces.errors import StoreError
from lm_searcher.tools.protocols import Cancelled

_log = logging.getLogger("lm_searcher.search")


def drive(context: Context) -> Stop:
    """Run the graph to its end, and store why it ended.

    The store alone says where the run stands. Raises Interrupted after Ctrl-C.
    """
    store = context.store
    _begin(context)
    _log.info("run '%s' starts at trial %d", store.name, len(store))
    try:
        stop = _run(context)
    except (GraphDrained, Cancelled):
        with contextlib.suppress(Cancelled):
            settle(context)
        store.put_back()
        raise Interrupted from None
    finally:
        with contextlib.suppress(StoreError):  # what ended the graph matters more
            store.set_attribute("seconds", round(context.seconds, 3))
    ended = context.records.ended
    if ended is not None and _extra_only(context, ended.trials):
        stop = ended.stop
    store.set_attribute("stop", stop.document)
    _log.info("run '%s' ended after %d trials: %s", store.name, len(store), stop)
    return stop


def _begin(context: Context) -> None:
    """Record that a run which had ended goes on. Nothing is under way yet: trials that were left
    running, or asked for, wait for a place."""
    store, stop = context.store, context.records.stop
    with store.tick():
        store.put_back()
        if stop is not None:
            store.write(Ending.key, Ending(trials=len(store), stop=stop))
            if stop.failed:  # the cause may be mended
                store.set_attribute("forgiven", len(store))
        store.set_attribute("stop", "")
    context.forgiven = context.records.forgiven
    context.under_way, context.confirmations = {}, None


def _run(context: Context) -> Stop:
    """Run the graph; why the search ended."""
    graph = build_graph().compile()
    config: RunnableConfig = {"recursion_limit": 2**31 - 1}  # the budget bounds the loop
    final = graph.invoke(BEGINNING, config, context=context, control=context.control)
    stop = Stop.of(final["stop"])
    assert stop is not None  # the graph ends with a reason only
    return stop


def settle(context: Context) -> None:
    """After Ctrl-C: let the running evaluations end.

    Raises Cancelled once the time that the executor was given is over.
    """
    while context.under_way:
        if context.confirmations is None:
            evaluation.collect(context)
        else:
            confirmation_runs.collect(context)


def _extra_only(context: Context, first: int) -> bool:
    """Whether every trial from `first` on is an extra request: they do not change why the search
    ended before."""
    picks = context.records.picks.values()
    extra = sum(pick.extra and not pick.refused and pick.trial >= first for pick in picks)
    return 0 < len(context.store) - first <= extra
