"""What a tool answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ToolResult:
    """One line for people, plain data for programs and models."""

    summary: str
    data: Mapping[str, Any] = field(default_factory=dict)
    error: bool = False
    """Whether nothing was done; the summary then says what to mend."""

    def text(self) -> str:
        """Both as a model reads them: the summary, and the data as JSON on a second line."""
        if not self.data:
            return self.summary
        document = json.dumps(self.data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        return f"{self.summary}\n{document}"


def failure(message: str) -> ToolResult:
    """Nothing was done, and why."""
    return ToolResult(message, error=True)
