"""The prompt for general chat models: decisions and options in words, answered by index.

An index is short, and cannot be a design that is not among the candidates.
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
    """What is searched, in words."""

    space: str
    metric: str
    direction: str
    """`max` or `min`: what is better of the metric as the user knows it."""
    positions: Sequence[tuple[str, Sequence[Option]]]
    """Each decision's name and its options, in the order of the NCode's digits."""
    parts: Sequence[tuple[str, str]] = ()
    """Of several objectives each metric with its direction; `metric` then weighs them."""
    constraints: Sequence[str] = ()
    """Bounds on metrics, in words."""

    def design(self, code: str) -> str:
        """An NCode's options in words."""
        return ", ".join(
            _word(options[int(digit, 36)])
            for digit, (_, options) in zip(code, self.positions, strict=True)
        )

    def value(self, score: float | None) -> str:
        """A score (more is better) as the metric it was."""
        if score is None:
            return "failed"
        return f"{score if self.direction == 'max' else -score:.6g}"


def _word(option: Option) -> str:
    """An option as it is shown; in quotes where it might be taken for two."""
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
    """The prompt: the `limit` best of the history, the pending, and the numbered candidates.

    At least `picks` of the candidates are asked for.
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
    """The distinct candidate numbers below `n` that the reply ranks, at least one, best first.

    Words around the JSON object, a code fence for one, are passed over. Raises ReplyError.
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
