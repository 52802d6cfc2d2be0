"""The position in the loop: what changes from step to step, as plain data.

It holds nothing that grows with the run. Trials and records are in the store, running evaluations
in the executor.
"""

from __future__ import annotations

from typing import Any, TypedDict

from lm_searcher.agent.loop.tool_calls import ToolCall


class State(TypedDict):
    """The position in the loop. Plain data only."""

    wanted: int
    """How many picks this step makes; 0 outside remember -> submit."""
    pool: bytes
    """The candidates as uint8 [candidates, positions]; empty outside propose -> rank."""
    calls: list[ToolCall]
    """The picks, as calls of the tool `evaluate_ncode`; empty outside propose -> submit."""
    usage: dict[str, Any]
    """What asking a model for the picks took; empty where none was asked."""
    stop: dict[str, Any]
    """Why the search ends, a `Stop` as JSON; empty while it goes on."""


BEGINNING = State(wanted=0, pool=b"", calls=[], usage={}, stop={})
"""Where every process begins: all else is in the store."""
