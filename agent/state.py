"""The position in the loop: what changes from step to step, as plain data.

Each step writes the state to the checkpoint, so it holds nothing that grows with the run. Trials,
the subspace with its prunes and the counters live in the store.
"""

from __future__ import annotations

from typing import Any, TypedDict

from lm_searcher.spaces.ncode import NCode


class State(TypedDict):
    """The position in the loop. Plain data only."""

    number: int
    """The next trial's number; every trial below it is finished."""
    pool: bytes
    """The candidates as uint8 [candidates, positions]; empty outside propose -> rank."""
    picks: list[NCode]
    """What is to be evaluated as trials `number`, `number` + 1, ..."""
    usage: dict[str, Any]
    """What asking a model for the picks took; empty where none was asked."""
    stop: dict[str, Any]
    """Why the search ends, a `Stop` as JSON; empty while it goes on."""
