"""What a tool is: a name, a description and typed arguments for a model, and a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from lm_searcher.agent.toolbox.arguments import Arguments
from lm_searcher.agent.toolbox.result import ToolResult
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.errors import UserError

Cost = Callable[[Workspace, Any], str | None]


def no_cost(workspace: Workspace, args: Arguments) -> str | None:
    """For tools that never need a confirmation."""
    return None


@dataclass(frozen=True)
class Tool:
    """One tool."""

    name: str
    description: str
    """Read by the model that may call the tool."""
    arguments: type[Arguments]
    function: Callable[[Workspace, Any], ToolResult]
    """Raises UserError, which `registry.call` turns into a result."""
    costs: Cost = no_cost
    """The question that a user must confirm before the call; None if there is none."""

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments."""
        return self.arguments.model_json_schema()

    def parse(self, arguments: Mapping[str, Any]) -> Arguments:
        """The validated arguments. Raises UserError with at most five mistakes."""
        try:
            return self.arguments.model_validate(dict(arguments))
        except ValidationError as error:
            raise UserError("; ".join(self._mistakes(error)[:5])) from None

    def _mistakes(self, error: ValidationError) -> list[str]:
        accepted = ", ".join(self.arguments.model_fields) or "no arguments"
        lines = []
        for entry in error.errors(include_url=False):
            place = ".".join(str(part) for part in entry["loc"])
            message = f"{place}: {entry['msg']}"
            if entry["type"] == "extra_forbidden":
                message = f"unknown argument '{place}' (accepted: {accepted})"
            lines.append(message)
        return lines
