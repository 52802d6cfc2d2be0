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


def test_a_call_in_a_line() -> None:
    assert rendering.called("stop", {"run": "a", "n": [1]}) == '→ stop(run="a", n=[1])'
