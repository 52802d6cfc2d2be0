"""The prompt for general chat models: decisions and options in words, candidates by number.

The model answers with numbers, since they are short and always refer to a candidate.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lm_searcher.prompts.history import LIMIT, Entry, best_first
from lm_searcher.prompts.reply import ReplyError
from lm_searcher.prompts.template import fill

TEMPLATE = "semantic.txt"

Option = str | int | float | bool


@dataclass(frozen=True)
class Task:
    """The search in words."""

    space: str
    metric: str
    direction: str
    """`max` or `min`, of the metric in the user's own sign."""
    positions: Sequence[tuple[str, Sequence[Option]]]
    """Name and options of each decision, in the order of the NCode's digits."""
    parts: Sequence[tuple[str, str]] = ()
    """Metric and direction of each of several objectives; `metric` is then their weighted score."""
    constraints: Sequence[str] = ()
    """Bounds on metrics, in words."""

    def design(self, code: str) -> str:
        """An NCode's options in words."""
        return ", ".join(
            _word(options[int(digit, 36)])
            for digit, (_, options) in zip(code, self.positions, strict=True)
        )

    def value(self, score: float | None) -> str:
        """A score (higher is better) as a value of the metric."""
        if score is None:
            return "failed"
        return f"{score if self.direction == 'max' else -score:.6g}"


def _word(option: Option) -> str:
    """An option as text; in quotes if it could be read as two options."""
    text = str(option)
    plain = text.isprintable() and text.strip() == text != "" and "," not in text
    return text if plain else json.dumps(text)


def render(
    task: Task,
    history: Sequence[Entry],
    candidates: Sequence[str],
    *,
    picks: int = 1,
    pending: Sequence[str] = (),
    limit: int = LIMIT,
) -> str:
    """The prompt: the `limit` best trials, the pending ones, and the numbered candidates.

    The model is asked to rank at least `picks` candidates.
    """
    shown = best_first(history, limit)
    return fill(
        TEMPLATE,
        task=task,
        positions=[(name, [_word(o) for o in options]) for name, options in task.positions],
        history=[(task.value(score), task.design(code)) for code, score in shown],
        dropped=len(history) - len(shown),
        pending=[task.design(code) for code in pending],
        candidates=[task.design(code) for code in candidates],
        picks=min(picks, len(candidates)),
    )


def schema(n: int) -> dict[str, Any]:
    """The JSON schema of a reply that ranks some of `n` candidates."""
    index = {"type": "integer", "minimum": 0, "maximum": n - 1}
    ranking = {"type": "array", "items": index, "minItems": 1, "maxItems": n}
    return {
        "type": "object",
        "properties": {"ranking": ranking},
        "required": ["ranking"],
        "additionalProperties": False,
    }


def parse(reply: str, n: int) -> list[int]:
    """The candidate numbers that the reply ranks, best first: at least one, distinct, below `n`.

    Text around the JSON object, such as a code fence, is ignored. Raises ReplyError.
    """
    start, end = reply.find("{"), reply.rfind("}")
    if start < 0 or end < start:
        raise ReplyError('the reply holds no JSON object {"ranking": [...]}')
    try:
        document = json.loads(reply[start : end + 1])
    except (ValueError, RecursionError):
        raise ReplyError("the reply is no valid JSON") from None
    ranking = document.get("ranking")
    if not isinstance(ranking, list) or not ranking:
        raise ReplyError('the reply has no list "ranking" of candidate numbers')
    if any(isinstance(i, bool) or not isinstance(i, int) for i in ranking):
        raise ReplyError('"ranking" holds something other than whole numbers')
    if beyond := [i for i in ranking if not 0 <= i < n]:
        named = f"number {beyond[0]}" if abs(beyond[0]) < 10**6 else "a number"
        raise ReplyError(f'"ranking" has {named}, which is no candidate; they are 0 to {n - 1}')
    if len(set(ranking)) < len(ranking):
        raise ReplyError('"ranking" has a candidate more than once')
    return ranking
