"""What is set about an endpoint, and the key, which is not."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.tools.rankers.shortlisting import settings_of

KEY_ENV = "OPENAI_API_KEY"
NO_KEY = "none"
"""Sent to a server on loopback, where the user names no key; the SDK wants one."""

FORM = "endpoint:MODEL@URL, as in endpoint:my-model@http://localhost:8000/v1"


@dataclass(frozen=True)
class EndpointSettings:
    """The keys of [ranker] that `endpoint` takes; the README says what they are."""

    ROLE: ClassVar[str] = "ranker endpoint"
    """What a person knows it as; begins what goes wrong."""
    KEY_ENV: ClassVar[str] = "[ranker] key_env"
    """Where a person names the variable that holds the key."""

    model: str
    url: str
    prompt: str = "semantic"
    candidates: int | None = None
    fallback: str | None = None
    context: int = 32_768
    reply_tokens: int | None = None
    key_env: str | None = None
    timeout: float = 120.0
    attempts: int = 6
    retry_seconds: float = 300.0
    backoff: float = 1.0
    max_tokens_total: int | None = None
    max_cost: float | None = None
    price_in: float | None = None
    price_out: float | None = None

    @classmethod
    def of(cls, what: str, given: Mapping[str, Any]) -> EndpointSettings:
        """Of ``MODEL@URL`` and the keys that were given. Raises ConfigError."""
        found = re.fullmatch(r"(?P<model>\S+)@(?P<url>https?://\S+)", what)
        if found is None:
            raise ConfigError(f"ranker 'endpoint:{what}'; accepted: {FORM}")
        check_url(found["url"], cls.ROLE, FORM)
        known = {"model": found["model"], "url": found["url"].rstrip("/")}
        settings = settings_of(cls, "endpoint", given, **known)
        if (settings.price_in is None) != (settings.price_out is None):
            raise ConfigError("[ranker] price_in and price_out: give both or neither")
        if settings.max_cost is not None and settings.price_in is None:
            raise ConfigError("[ranker] max_cost needs price_in and price_out, per million tokens")
        return settings

    @property
    def shown(self) -> int:
        """How many candidates the model reads: in the paper's prompt as many as it learnt on."""
        return self.candidates or (10 if self.prompt == "ncode" else 32)

    @property
    def room(self) -> int:
        """Tokens that a reply may have."""
        return self.reply_tokens or (100 if self.prompt == "ncode" else 1024)

    @property
    def on_loopback(self) -> bool:
        """Whether the server is on this machine."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    def key(self) -> str:
        """The key, from the environment. Raises ConfigError, which does not show it."""
        if self.key_env is None and self.on_loopback:
            return NO_KEY
        name = self.key_env or KEY_ENV
        key = os.environ.get(name, "").strip()
        if not key:
            raise ConfigError(
                f"{self.ROLE}: the environment variable {name} holds no key for "
                f"'{self.url}'; set it, or name another with {self.KEY_ENV}"
            )
        if not re.fullmatch(r"[!-~]+", key):  # what a header cannot hold
            raise ConfigError(
                f"{self.ROLE}: what the environment variable {name} holds is no key; "
                "accepted: letters, digits and signs, without spaces"
            )
        return key

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What so many tokens cost; 0 without prices."""
        if self.price_in is None or self.price_out is None:
            return 0.0
        return (prompt_tokens * self.price_in + completion_tokens * self.price_out) / 1e6


def check_url(url: str, role: str, form: str) -> None:
    """A URL is stored and shown, so it must hold no secret. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f"{role}: '{url}' is no URL; accepted: {form}")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"{role}: the URL has a user, a password or a query in it, and it would be "
            "stored with the run; a key comes from the environment variable that key_env names"
        )
