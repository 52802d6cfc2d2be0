"""What is set about a local language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.tools.rankers.shortlisting import settings_of

FORM = "lm:PATH-OR-ID[+ADAPTER], as in lm:trained/tiny"


@dataclass(frozen=True)
class LMSettings:
    """The keys of [ranker] that `lm` takes; the README says what they are."""

    model: str
    adapter: str | None = None
    mode: str = "score"
    candidates: int | None = None
    listed: int = 10
    """Candidates in one prompt; the paper's models are trained on ten."""
    fallback: str | None = None
    context: int | None = None

    @classmethod
    def of(cls, what: str, given: Mapping[str, Any]) -> LMSettings:
        """Of ``PATH-OR-ID[+ADAPTER]`` and the keys that were given. Raises ConfigError."""
        model, plus, adapter = what.partition("+")
        if not model or (plus and not adapter):
            raise ConfigError(f"ranker 'lm:{what}'; accepted: {FORM}")
        return settings_of(cls, "lm", given, model=model, adapter=adapter or None)

    @property
    def compared(self) -> int:
        """How many candidates the model compares in one decision."""
        return self.candidates or (256 if self.mode == "score" else self.listed)
