"""What is in the body of an answer, if anything: servers send all sorts of things."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lm_searcher.tools.llm.client import MOST_BYTES


@dataclass(frozen=True)
class Completion:
    """A chat completion as far as it can be read."""

    text: str = ""
    problem: str = ""
    """Why there is no text; empty if there is. What is no completion has used no tokens."""
    prompt_tokens: int | None = None
    """None where the server does not tell, or not a sensible number."""
    completion_tokens: int | None = None

    @classmethod
    def of(cls, body: bytes) -> Completion:
        """Of a body of any content type. Raises nothing."""
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
    """What lies at a path of keys and places; None where there is nothing."""
    for step in path:
        if isinstance(step, str):
            document = document.get(step) if isinstance(document, dict) else None
        else:
            document = document[step] if isinstance(document, list) and document[step:] else None
    return document


def _tokens(count: object) -> int | None:
    sensible = isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 10**9
    return count if sensible else None  # type: ignore[return-value]
