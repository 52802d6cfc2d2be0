"""The toolbox as LangChain tools."""

from __future__ import annotations

import json
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool, ToolException

from lm_searcher.agent.toolbox.registry import TOOLS, call
from lm_searcher.agent.toolbox.tool import Tool
from lm_searcher.agent.toolbox.workspace import Workspace


def toolset(workspace: Workspace) -> list[BaseTool]:
    """One LangChain tool per tool. A failed call raises ToolException with what to correct."""
    return [_wrapped(workspace, tool) for tool in TOOLS.values()]


def _wrapped(workspace: Workspace, tool: Tool) -> BaseTool:
    def run(**arguments: Any) -> str:
        result = call(workspace, tool.name, arguments)
        if result.error:
            raise ToolException(result.text())
        return result.text()

    # With the schema as JSON, LangChain checks no arguments; `call` alone does.
    return StructuredTool(
        name=tool.name, description=tool.description, args_schema=tool.schema, func=run
    )


def parts(text: str) -> tuple[str, dict[str, Any]]:
    """The summary and the data in a ToolResult's text."""
    summary, _, document = text.partition("\n")
    try:
        data = json.loads(document)
    except ValueError:
        return text, {}
    return summary, data if isinstance(data, dict) else {}
