"""The chat's system prompt."""

from __future__ import annotations

from lm_searcher.prompts.template import fill

TEMPLATE = "chat.txt"


def render(news: str = "", alone: bool = False) -> str:
    """The prompt; `news` is what a model should know of the runs now, `alone` that no person
    is there."""
    return fill(TEMPLATE, news=news, alone=alone)
