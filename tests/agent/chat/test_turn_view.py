"""How a turn is printed."""

from __future__ import annotations

import io

from rich.console import Console

from lm_searcher.agent.chat.turn_view import Answer


def printed(width: int = 80, terminal: bool = False) -> Console:
    return Console(
        file=io.StringIO(), width=width, force_terminal=terminal, markup=False, emoji=False
    )


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_an_answer_in_pieces() -> None:
    console = printed()
    answer = Answer(console)
    for piece in ("One ", "**two**\n", "\nthree\x1b]0;title\x07"):
        answer.add(piece)
    answer.close()
    assert text(console) == "One **two**\n\nthree]0;title\n"


def test_an_answer_on_a_terminal_is_markdown() -> None:
    console = printed(terminal=True)
    answer = Answer(console)
    for piece in ("It is **so", "**.\n\n| a | b |\n|---|", "---|\n| 1 | 2 |\n\n```\nx\n\ny\n```"):
        answer.add(piece)
    answer.close()
    out = text(console)
    assert "**" not in out.splitlines()[-1] and "|---|" not in out.splitlines()[-1]
    assert "\x1b[1mso\x1b[0m" in out
