"""A model's reply, normalised: each tool call has a unique id and arguments as a dict."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, AIMessageChunk, ToolCall, ToolMessage

from lm_searcher.spaces.errors import ChatError

MOST_CALLS = 16
"""The most tool calls in one reply; further ones are answered with an error."""


@dataclass(frozen=True)
class Reply:
    """A message, and the answers to its calls that cannot run."""

    message: AIMessage
    answers: tuple[ToolMessage, ...] = ()

    @classmethod
    def of(cls, chunks: Iterable[AIMessageChunk]) -> Reply:
        """The reply in a stream, which is read to its end. Raises ChatError for an empty stream.

        Arguments are parsed strictly, so that no call of a truncated answer is run.
        """
        whole: AIMessageChunk | None = None
        for chunk in chunks:
            whole = chunk if whole is None else whole + chunk
        text = whole.text if whole is not None else ""
        fragments = whole.tool_call_chunks if whole is not None else []
        if whole is None or (not text and not fragments and not _ended(whole)):
            raise ChatError("chat model: the answer ended before it began")
        calls: list[ToolCall] = []
        answers: list[ToolMessage] = []
        for fragment in fragments:
            name, given = fragment.get("name") or "unnamed", fragment.get("id")
            used = {call["id"] for call in calls}
            key = given if given and given not in used else f"call-{uuid4().hex[:12]}"
            arguments, problem = _arguments(fragment.get("args") or "")
            if len(calls) >= MOST_CALLS:
                problem = f"not run: at most {MOST_CALLS} calls in one reply"
            if problem:
                answers.append(
                    ToolMessage(f"{name}: {problem}", tool_call_id=key, name=name, status="error")
                )
            calls.append(ToolCall(name=name, args=arguments, id=key, type="tool_call"))
        return cls(AIMessage(text, id=whole.id, tool_calls=calls), tuple(answers))


def _ended(whole: AIMessageChunk) -> bool:
    return whole.response_metadata.get("finish_reason") is not None


def _arguments(text: str) -> tuple[dict[str, Any], str]:
    """The arguments and what is wrong with them; the latter is empty if they are valid."""
    if not text.strip():
        return {}, ""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        what = str(error) if isinstance(error, ValueError) else "nested too deeply"
        return {}, f"the arguments are no valid JSON ({what}); send one JSON object"
    if not isinstance(found, dict):
        return {}, "the arguments are no JSON object; send one JSON object"
    return found, ""
