"""Driving the graph: from wherever the store says the run stands to its end."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import Durability

from lm_searcher.agent.context import Context
from lm_searcher.agent.graph import build_graph
from lm_searcher.agent.loop.stopping import Interrupted
from lm_searcher.agent.state import State
from lm_searcher.agent.study.checkpoints import checkpointer
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.stop import Stop
from lm_searcher.spaces.errors import StoreError
from lm_searcher.tools.protocols import Cancelled

_log = logging.getLogger("lm_searcher.search")


def drive(context: Context, files: RunFiles, durability: Durability) -> Stop:
    """Run the graph to its end, and store why it ended.

    A step that was cut short in the middle of a batch goes on from its checkpoint, which has the
    batch's picks. In every other case the store alone says where the run stands. Raises
    Interrupted after Ctrl-C.
    """
    store, records = context.store, context.records
    first = len(store)
    config: RunnableConfig = {
        "configurable": {"thread_id": records.id},
        "recursion_limit": 2**31 - 1,  # the budget bounds the loop
    }
    if records.stop is not None and records.stop.failed:  # begun again: the cause may be mended
        store.set_attribute("forgiven", len(store))
    context.forgiven = context.records.forgiven
    store.set_attribute("stop", "")
    with checkpointer(files) as saver:
        graph = build_graph().compile(checkpointer=saver)
        options: dict[str, Any] = {"durability": durability} if saver else {}
        begun = graph.get_state(config).next if saver else ()
        # None goes on at the node that was cut short. A confirmation begins anew, so that a
        # larger budget is searched before it.
        start = beginning(context) if begun in ((), ("confirm",)) else None
        _log.info(
            "run '%s' starts at trial %d, node %s",
            files.name,
            first,
            ", ".join(begun) or "remember",
        )
        try:
            final = graph.invoke(start, config, context=context, **options)
        except Cancelled:
            store.put_back()
            raise Interrupted from None
        finally:
            with contextlib.suppress(StoreError):  # what ended the graph matters more
                store.set_attribute("seconds", round(context.seconds, 3))
    stop = Stop.of(final["stop"])
    assert stop is not None  # the graph ends with a reason only
    if records.stop is not None and _extra_only(context, first):
        stop = records.stop
    store.write("stop", stop)
    _log.info("run '%s' ended after %d trials: %s", files.name, len(store), stop)
    return stop


def _extra_only(context: Context, first: int) -> bool:
    """Whether every trial from `first` on is an extra request: they do not change why the search
    ended before."""
    picks = context.records.picks.values()
    extra = sum(pick.extra and not pick.refused and pick.trial >= first for pick in picks)
    return 0 < len(context.store) - first <= extra


def beginning(context: Context) -> State:
    """The state from which the store's run goes on."""
    unfinished = (t.number for t in context.store.trials if not t.state.finished)
    number = next(unfinished, len(context.store))
    return State(number=number, pool=b"", picks=[], usage={}, stop={})
