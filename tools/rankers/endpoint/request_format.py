"""The body of a chat-completions request, without the fields that the server refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lm_searcher.prompts.semantic import schema
from lm_searcher.tools.llm.settings import EndpointSettings

Message = dict[str, str]

OPTIONAL = ("response_format", "temperature", "seed", "max_tokens")
"""The fields besides model and messages; a server may refuse any of them."""


class RequestFormat:
    """Builds requests; a field that the server has refused is left out of all later ones.

    `say` receives a note for the user.
    """

    def __init__(self, settings: EndpointSettings, say: Callable[[str], None]) -> None:
        self.settings, self.say = settings, say
        self._fields = list(OPTIONAL)

    def request(self, messages: list[Message], seed: int, n: int) -> dict[str, Any]:
        """A request for a ranking of `n` candidates."""
        fields: dict[str, Any] = {
            "temperature": 0,
            "seed": seed,
            "max_tokens": self.settings.room,
        }
        if self.settings.prompt == "semantic":
            named = {"name": "ranking", "strict": True, "schema": schema(n)}
            fields["response_format"] = {"type": "json_schema", "json_schema": named}
        request: dict[str, Any] = {"model": self.settings.model, "messages": messages}
        return request | {key: v for key, v in fields.items() if key in self._fields}

    def drop_refused(self, refusal: str) -> bool:
        """Leave out the fields that a refusal names, or all optional ones if it names none.

        Returns False if there was no field left to leave out.
        """
        refused = [key for key in self._fields if key in refusal] or self._fields
        self._fields = [key for key in self._fields if key not in refused]
        if refused:
            self.say(f"the server refuses {', '.join(refused)}: left out from here on")
        return bool(refused)
