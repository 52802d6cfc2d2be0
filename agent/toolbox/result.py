"""The result of a tool."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ToolResult:
    """A summary line for users, and plain data for programs and models."""

    summary: str
    data: Mapping[str, Any] = field(default_factory=dict)
    error: bool = False
    """Whether the call failed and changed nothing; the summary says what to correct."""

    def text(self) -> str:
        """The text for a model: the summary, and the data as JSON on a second line."""
        if not self.data:
            return self.summary
        document = json.dumps(self.data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        return f"{self.summary}\n{document}"


def failure(message: str) -> ToolResult:
    """The result of a call that failed."""
    return ToolResult(message, error=True)
