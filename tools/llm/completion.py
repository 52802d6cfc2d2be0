"""Reads a chat completion from the body of an answer, which may be anything."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lm_searcher.tools.llm.client import MOST_BYTES


@dataclass(frozen=True)
class Completion:
    """A chat completion, as far as the body can be read."""

    text: str = ""
    problem: str = ""
    """The reason for a missing text; empty if there is a text."""
    prompt_tokens: int | None = None
    """None if the server reports no number, or no sensible one; 0 if the body is no completion."""
    completion_tokens: int | None = None

    @classmethod
    def of(cls, body: bytes) -> Completion:
        """Read a body of any content type. Raises nothing."""
        if len(body) >= MOST_BYTES:
            problem = f"the answer is longer than {MOST_BYTES // 1024} KiB"
            return cls("", problem, None, MOST_BYTES // 4)
        if not body.strip():
            return cls("", "the answer is empty", 0, 0)
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return cls("", "the answer is not JSON", 0, 0)
        usage = _at(document, "usage")
        used = (_tokens(_at(usage, "prompt_tokens")), _tokens(_at(usage, "completion_tokens")))
        choice = _at(document, "choices", 0)
        text = _at(choice, "message", "content")
        if isinstance(text, str) and text.strip():
            return cls(text, "", *used)
        if choice is None:
            return cls("", "the answer is no chat completion", used[0] or 0, used[1] or 0)
        if _at(choice, "finish_reason") == "length":
            return cls("", "the reply was used up before it began; raise reply_tokens", *used)
        return cls("", "the reply is empty", *used)


def _at(document: Any, *path: str | int) -> Any:
    """The value at a path of keys and indices; None if there is none."""
    for step in path:
        if isinstance(step, str):
            document = document.get(step) if isinstance(document, dict) else None
        else:
            document = document[step] if isinstance(document, list) and document[step:] else None
    return document


def _tokens(count: object) -> int | None:
    """A plausible number of tokens, else None."""
    if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 10**9:
        return count
    return None
