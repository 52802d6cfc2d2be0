"""The chat's output: lines of text, and tools' results as tables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from lm_searcher.agent.toolbox.result import ToolResult

MOST_ROWS, MOST_COLUMNS = 40, 8
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters could steer the terminal; the output of models and tools is not trusted."""


def clean(text: str) -> str:
    """The text without control characters, except line ends and tabs."""
    return CONTROL.sub("", text)


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line. Only a terminal wraps it, at words."""
    console.print(Text(clean(text), style=style), soft_wrap=not console.is_terminal)


def shown(result: ToolResult) -> RenderableType:
    """A result: its summary, then its data as a grid and as tables."""
    parts: list[RenderableType] = [Text(clean(result.summary), style="bold")]
    grid = Table.grid(padding=(0, 2))
    for key, value in result.data.items():
        if _rows(value):
            parts.append(_table(key, value))
        elif value not in (None, [], {}):
            grid.add_row(Text(_title(key), style="dim"), Text(_cell(value)))
    if grid.row_count:
        parts.insert(1, grid)
    return Group(*parts)


def _rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the entries of nested mappings as cells of their own."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        found |= value if isinstance(value, Mapping) else {key: value}
    return found


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(key for row in flat for key in row))[:MOST_COLUMNS]
    table = Table(title=_title(title), title_justify="left", title_style="dim")
    for column in columns:
        numbers = all(isinstance(row.get(column, 0), int | float) for row in flat)
        table.add_column(_title(column), justify="right" if numbers else "left", overflow="fold")
    for row in flat[:MOST_ROWS]:
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))
    if len(flat) > MOST_ROWS:
        table.caption = f"{len(flat) - MOST_ROWS} more"
    return table


def _title(key: str) -> str:
    return clean(key.replace("_", " "))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    if _rows(value):
        return ", ".join(_cell(next(iter(row.values()), None)) for row in value)
    if isinstance(value, Mapping):
        return ", ".join(
            f"{_title(k)} {_cell(v)}" for k, v in value.items() if v not in (None, {}, [])
        )
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return clean(str(value))


def called(tool: str, arguments: Mapping[str, Any]) -> str:
    """A tool call in one line."""
    words = ", ".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in arguments.items())
    return f"→ {tool}({words})"
