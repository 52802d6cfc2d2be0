"""The chat's system prompt."""

from __future__ import annotations

from lm_searcher.prompts.template import fill

TEMPLATE = "chat.txt"


def render(news: str = "", alone: bool = False) -> str:
    """The prompt. `news` describes the present runs; `alone`: no user is present."""
    return fill(TEMPLATE, news=news, alone=alone)
