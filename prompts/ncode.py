"""The paper's prompt (LM-Searcher, arXiv 2509.05657): only codes and scores.

    333103|1.0000,430112|0.4127,000000|0.0000,013404;214300;

The model is fine-tuned to answer with one of the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

from lm_searcher.prompts.history import LIMIT, Entry, best_first
from lm_searcher.prompts.template import fill

TEMPLATE = "ncode.txt"

COMPLAINT = "The answer must be one of the candidates, exactly as it is listed, and nothing else."
"""The message to a model whose reply is no candidate."""


def render(history: Sequence[Entry], candidates: Sequence[str], *, limit: int = LIMIT) -> str:
    """The prompt: the best `limit` entries of the history, best first, then the candidates.

    Scores are min-max normalised over these entries, with 4 decimals; if all are equal, each is
    1.0000. A failed trial has 0.0000, like the worst score. Without history the prompt contains
    only the candidates.
    """
    shown = best_first(history, limit)
    scores = [score for _, score in shown if score is not None]
    low, high = (min(scores), max(scores)) if scores else (0.0, 0.0)

    def scaled(score: float | None) -> float:
        if score is None:
            return 0.0
        if high == low:
            return 1.0
        return (score / 2 - low / 2) / (
            high / 2 - low / 2
        )  # halved, so that the differences cannot overflow

    history = [(code, scaled(score)) for code, score in shown]
    return fill(TEMPLATE, history=history, candidates=candidates)


def parse(reply: str, candidates: Sequence[str]) -> int | None:
    """The index of the candidate in the reply; None if the reply is no candidate.

    White space around the candidate and a semicolon after it are ignored.
    """
    answer = reply.strip().rstrip(";").rstrip()
    return candidates.index(answer) if answer in candidates else None
