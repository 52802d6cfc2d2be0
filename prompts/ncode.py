"""The paper's prompt (LM-Searcher, arXiv 2509.05657): codes and scores, and nothing else.

    333103|1.0000,430112|0.4127,000000|0.0000,013404;214300;

The model is fine-tuned to answer with one of the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence

from lm_searcher.prompts.history import LIMIT, Entry, best_first
from lm_searcher.prompts.template import fill

TEMPLATE = "ncode.txt"

COMPLAINT = "The answer must be one of the candidates, exactly as it is listed, and nothing else."
"""What a model is told whose reply is no candidate."""


def render(history: Sequence[Entry], candidates: Sequence[str], *, limit: int = LIMIT) -> str:
    """The prompt: the best `limit` entries of the history, best first, then the candidates.

    Scores are min-max normalised over the entries shown, with 4 decimals. Where all of them are
    equal each is 1.0000; a failed trial is 0.0000, as the worst score is. An empty history
    leaves the candidates alone.
    """
    shown = best_first(history, limit)
    scores = [score for _, score in shown if score is not None]
    low, high = (min(scores), max(scores)) if scores else (0.0, 0.0)

    def scaled(score: float | None) -> float:
        if score is None:
            return 0.0
        if high == low:
            return 1.0
        return (score / 2 - low / 2) / (high / 2 - low / 2)  # halved: no overflow

    history = [(code, scaled(score)) for code, score in shown]
    return fill(TEMPLATE, history=history, candidates=candidates)


def parse(reply: str, candidates: Sequence[str]) -> int | None:
    """The index of the candidate that the reply names; None if it is none of them.

    White space around it and a closing semicolon, as the prompt has, are no matter.
    """
    answer = reply.strip().rstrip(";").rstrip()
    return candidates.index(answer) if answer in candidates else None
