"""The chat's system prompt."""

from __future__ import annotations

from lm_searcher.prompts.chat import render


def test_news_and_whether_a_person_is_there() -> None:
    plain = render()
    assert "no shell, no files, no keys" in plain and "the program waits" not in plain
    news = "Searches under way: a 3/40."
    assert news in render(news) and news not in plain
    assert "the program waits for it" in render(alone=True)
