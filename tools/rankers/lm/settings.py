"""[ranker] name = "lm:PATH-OR-ID": the settings of a local language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.settings import Count, SettingsModel

FORM = "lm:PATH-OR-ID[+ADAPTER], as in lm:trained/tiny"


class LMOptions(SettingsModel):
    """The keys of [ranker] that `lm` takes."""

    ROLE: ClassVar = "[ranker] for 'lm'"

    mode: Literal["score", "generate"] = "score"
    """`score` ranks by the likelihood of each candidate; `generate` takes a reply as the choice."""
    candidates: Count | None = None
    """Candidates that the model compares in one decision; default: 256 with `score`, as many as
    `listed` with `generate`."""
    listed: Count = 10
    """Candidates in one prompt; the paper's models are trained on ten."""
    fallback: str | None = None
    """The ranker that decides where the model does not; default: local, or evolution for a space
    that local does not take."""
    context: Count | None = None
    """Most tokens of a prompt with its answer; default: what the model was made for."""


class LMSettings(LMOptions):
    """Which local language model ranks, and how."""

    model: str
    """A directory or a Hugging Face id."""
    adapter: str | None = None
    """A peft adapter for it."""

    @classmethod
    def of(cls, what: str, given: Mapping[str, Any]) -> LMSettings:
        """From ``PATH-OR-ID[+ADAPTER]`` and the keys of [ranker]. Raises ConfigError."""
        model, plus, adapter = what.partition("+")
        if not model or (plus and not adapter):
            raise ConfigError(f"ranker 'lm:{what}'; accepted: {FORM}")
        options = LMOptions(**given)
        return cls(model=model, adapter=adapter or None, **dict(options))

    @property
    def compared(self) -> int:
        """How many candidates the model compares in one decision."""
        return self.candidates or (256 if self.mode == "score" else self.listed)
