"""The tool call by which a search evaluates an architecture.

The graph, the chat and the MCP server have one definition of the tool `evaluate_ncode`: the graph's
ranker makes its picks as calls of it, a model or a person calls it in words.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field

from lm_searcher.spaces.ncode import NCode

EVALUATE: Final = "evaluate_ncode"
"""The tool's name."""


class EvaluateNCode(BaseModel):
    """The arguments of the tool `evaluate_ncode`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ncode: Annotated[str, Field(description="One digit 0-9a-z a position, see describe_space.")]
    seed: Annotated[
        int | None,
        Field(ge=0, lt=2**63, description="Seed of the training; left out: the trial's own."),
    ] = None
    budget: Annotated[
        dict[str, Any] | None,
        Field(description="Fidelity, as in [confirm]; left out: that of the run's trials."),
    ] = None


class ToolCall(TypedDict):
    """A tool call in LangChain's form, as plain data."""

    name: Literal["evaluate_ncode"]
    args: dict[str, Any]
    """An `EvaluateNCode` as JSON."""
    id: str
    type: Literal["tool_call"]


def evaluate_call(number: int, ncode: NCode, seed: int | None = None) -> ToolCall:
    """The call that evaluates an architecture as trial `number`."""
    args = EvaluateNCode(ncode=ncode, seed=seed).model_dump(exclude_none=True)
    return ToolCall(name=EVALUATE, args=args, id=f"trial-{number}", type="tool_call")
