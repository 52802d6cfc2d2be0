"""The settings of the chat model's server. The key stays in the environment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from lm_searcher.spaces.errors import ChatError
from lm_searcher.tools.llm.settings import EndpointSettings, check_url

URL = "https://api.openai.com/v1"
SCRIPTED = "scripted:"
FORM = "--model MODEL --base-url URL, as in --base-url http://localhost:8000/v1"


@dataclass(frozen=True)
class ChatSettings(EndpointSettings):
    """The server of a chat model."""

    ROLE: ClassVar[str] = "chat model"
    KEY_ENV: ClassVar[str] = "--key-env"

    @classmethod
    def given(
        cls, model: str, url: str | None, key_env: str | None, timeout: float
    ) -> ChatSettings:
        """The settings of a command line. Raises UserError."""
        if not re.fullmatch(r"\S+", model):
            raise ChatError(f"chat model '{model}'; accepted: {FORM}")
        url = URL if url is None else url.rstrip("/")
        if not re.match(r"https?://", url):
            raise ChatError(f"chat model: '{url}' is no URL; accepted: {FORM}")
        check_url(url, cls.ROLE, FORM)
        settings = cls(model, url, key_env=key_env, timeout=timeout)
        settings.key()
        return settings
