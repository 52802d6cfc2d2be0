"""The settings of a language model that a server runs, and its key from the environment."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import model_validator

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.settings import Count, NotNegative, Positive, SettingsModel

KEY_ENV = "OPENAI_API_KEY"
NO_KEY = "none"
"""Sent to a server on loopback, where the user names no key; the SDK wants one."""

FORM = "endpoint:MODEL@URL, as in endpoint:my-model@http://localhost:8000/v1"


class EndpointOptions(SettingsModel):
    """How a server is asked: the keys of [ranker] that `endpoint` takes."""

    ROLE: ClassVar = "ranker endpoint"
    """What users call it; messages begin with it."""

    prompt: Literal["ncode", "semantic"] = "semantic"
    """`semantic` describes the space in words; `ncode` is the paper's prompt, for models that were
    trained on it."""
    candidates: Count | None = None
    """Candidates that the model reads; default: 32, or 10 with the paper's prompt."""
    fallback: str | None = None
    """The ranker that decides where the model does not; default: local, or evolution for a space
    that local does not take."""
    context: Count = 32_768
    """Tokens that the model reads at most, its reply included."""
    reply_tokens: Count | None = None
    """Tokens that a reply may have; default: 1024, or 100 with the paper's prompt."""
    key_env: str | None = None
    """The environment variable that holds the key; default: OPENAI_API_KEY, and no key for a
    server on this machine."""
    timeout: Positive = 120.0
    """Seconds that a request may take."""
    attempts: Count = 6
    """How often a request is sent at most."""
    retry_seconds: NotNegative = 300.0
    """Seconds after which a request is not sent again."""
    backoff: NotNegative = 1.0
    """Seconds before the second attempt; each further wait is twice as long, up to a minute."""
    max_tokens_total: Count | None = None
    """Tokens that the run may use; then the fallback decides."""
    max_cost: Positive | None = None
    """What the run may cost; then the fallback decides. Needs both prices."""
    price_in: NotNegative | None = None
    """Price of a million tokens that are sent."""
    price_out: NotNegative | None = None
    """Price of a million tokens that are received."""

    @model_validator(mode="after")
    def _prices(self) -> Self:
        if (self.price_in is None) != (self.price_out is None):
            raise ValueError("[ranker] price_in and price_out: give both or neither")
        if self.max_cost is not None and self.price_in is None:
            raise ValueError("[ranker] max_cost needs price_in and price_out, per million tokens")
        return self


class EndpointSettings(EndpointOptions):
    """Which model of which server is asked, and how."""

    KEY_ENV: ClassVar[str] = "[ranker] key_env"
    """Where users name the variable that holds the key."""

    model: str
    """The model's name at the server."""
    url: str
    """Where the server's API begins, as in http://localhost:8000/v1."""

    @classmethod
    def of(cls, what: str, given: Mapping[str, Any]) -> EndpointSettings:
        """From ``MODEL@URL`` and the keys of [ranker]. Raises ConfigError."""
        found = re.fullmatch(r"(?P<model>\S+)@(?P<url>https?://\S+)", what)
        if found is None:
            raise ConfigError(f"ranker 'endpoint:{what}'; accepted: {FORM}")
        check_url(found["url"], cls.ROLE, FORM)
        options = EndpointOptions(**given)
        return cls(model=found["model"], url=found["url"].rstrip("/"), **dict(options))

    @property
    def shown(self) -> int:
        """How many candidates the model reads."""
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
