"""What is printed."""

from __future__ import annotations

import io

from rich.console import Console

from lm_searcher.agent.chat import rendering
from lm_searcher.agent.toolbox.result import ToolResult


def printed(width: int = 80, terminal: bool = False) -> Console:
    return Console(
        file=io.StringIO(), width=width, force_terminal=terminal, markup=False, emoji=False
    )


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_result_is_a_line_a_grid_and_tables() -> None:
    rows = [{"trial": i, "value": i / 3, "metrics": {"params_m": i}} for i in range(60)]
    data = {"run": "[red]x", "best": {"ncode": "012", "value": 0.25}, "none": None, "trials": rows}
    console = printed()
    console.print(rendering.shown(ToolResult("all \x1b[31mis\x07 well", data)))
    out = text(console)
    assert out.startswith("all [31mis well\n") and "[red]x" in out and "\x1b" not in out
    assert "ncode 012, value 0.25" in out and "params m" in out and "none" not in out
    assert "0.33333" in out and "20 more" in out


def test_an_answer_in_pieces() -> None:
    console = printed()
    answer = rendering.Answer(console)
    for piece in ("One ", "**two**\n", "\nthree\x1b]0;title\x07"):
        answer.add(piece)
    answer.close()
    assert text(console) == "One **two**\n\nthree]0;title\n"


def test_an_answer_on_a_terminal_is_markdown() -> None:
    console = printed(terminal=True)
    answer = rendering.Answer(console)
    for piece in ("It is **so", "**.\n\n| a | b |\n|---|", "---|\n| 1 | 2 |\n\n```\nx\n\ny\n```"):
        answer.add(piece)
    answer.close()
    out = text(console)
    assert "**" not in out.splitlines()[-1] and "|---|" not in out.splitlines()[-1]
    assert "\x1b[1mso\x1b[0m" in out


def test_a_call_in_a_line() -> None:
    assert rendering.called("stop", {"run": "a", "n": [1]}) == '→ stop(run="a", n=[1])'
