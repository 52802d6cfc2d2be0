"""Completion of slash commands: names, arguments and values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from lm_searcher.agent.chat import slash
from lm_searcher.agent.chat.slash_values import description, kinds
from lm_searcher.agent.toolbox.catalog import defined, tables_of
from lm_searcher.agent.toolbox.registry import TOOLS
from lm_searcher.agent.toolbox.tool import Tool
from lm_searcher.agent.toolbox.workspace import Workspace
from lm_searcher.spaces.builtin import BUILTIN
from lm_searcher.spaces.errors import ChatError
from lm_searcher.tools.rankers import RANKERS


class CommandCompleter(Completer):
    """Completes lines that begin with a slash; other lines have no completions."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterator[Completion]:
        """See Completer."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        *before, word = text[1:].split(" ")
        for found, about in self._candidates(before, word):
            if found.startswith(word):
                yield Completion(found, start_position=-len(word), display_meta=about)

    def _candidates(self, before: list[str], word: str) -> Iterable[tuple[str, str]]:
        if not before:
            return slash.names().items()
        try:
            name = slash.tool_of(before[0])
        except ChatError:
            return ()
        if name == "help":
            return slash.names().items()
        if name == "watch":
            return ((run, "run") for run in self.workspace.names())
        return self._of_tool(TOOLS[name], before[1:], word) if name in TOOLS else ()

    def _of_tool(self, tool: Tool, before: list[str], word: str) -> Iterable[tuple[str, str]]:
        properties = tool.schema.get("properties", {})
        if word.startswith("-"):
            return (
                (f"--{key.replace('_', '-')}", description(properties[key])) for key in properties
            )
        last = before[-1] if before else ""
        if last.startswith("--") and "=" not in last:
            key = last[2:].replace("-", "_")
        else:
            loose = sum(not w.startswith("--") for w in before)
            loose -= sum(w.startswith("--") and "=" not in w for w in before)
            free = slash.order(tool)
            if loose >= len(free) and free and "array" in kinds(properties[free[-1]]):
                loose = len(free) - 1  # a list takes all further words
            key = free[loose] if 0 <= loose < len(free) else ""
        return ((value, key) for value in self._values(key, properties.get(key, {})))

    def _values(self, key: str, schema: Mapping[str, Any]) -> list[str]:
        sources: dict[str, Callable[[], list[str]]] = {
            "run": self.workspace.names,
            "runs": self.workspace.names,
            "space": lambda: [*BUILTIN, *defined(self.workspace)],
            "table": lambda: list(tables_of(self.workspace)),
            "ranker": lambda: [*RANKERS, *self.workspace.rankers],
            "function": lambda: list(self.workspace.functions),
        }
        if key in sources:
            return sources[key]()
        options = [schema, *schema.get("anyOf", [])]
        return [str(value) for option in options for value in option.get("enum", [])]
