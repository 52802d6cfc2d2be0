"""Usage of a language model: requests, tokens and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Usage:
    """Usage of one or more decisions of a language-model ranker."""

    decisions: int = 0
    """Rankings that the model was to make."""
    asks: int = 0
    """Requests with an answer, valid or not."""
    reasks: int = 0
    """Requests that were repeated after an invalid reply; included in `asks`."""
    retries: int = 0
    """Requests that were sent again after no answer."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    """In the currency of the prices; 0 without prices."""
    fallbacks: int = 0
    """Decisions that the fallback ranker made instead of the model."""
    reason: str = ""
    """Why the fallback ranker decided last; empty if it never did."""

    @property
    def tokens(self) -> int:
        """Tokens of prompts and replies."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, later: Usage) -> Usage:
        numbers = {
            f.name: getattr(self, f.name) + getattr(later, f.name)
            for f in fields(self)
            if f.name != "reason"
        }
        return Usage(**numbers, reason=later.reason or self.reason)

    def __str__(self) -> str:
        """One line of text."""
        parts = [f"{self.decisions - self.fallbacks} of {self.decisions} decisions"]
        asks = f"{self.asks:,} asks"
        reasks = f"{self.reasks} re-asks" * bool(self.reasks)
        retries = f"{self.retries} retries" * bool(self.retries)
        if repeated := ", ".join(filter(None, (reasks, retries))):
            asks += f" ({repeated})"
        parts += [asks, f"{self.prompt_tokens:,} + {self.completion_tokens:,} tokens"]
        if self.cost:
            parts.append(f"cost {self.cost:.4f}")
        if self.fallbacks:
            parts.append(f"{self.fallbacks} by the fallback, the last: {self.reason}")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The fields that are not zero or empty, as plain data."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Usage:
        """From plain data; keys of other versions are ignored."""
        names = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in stored.items() if name in names})

    @classmethod
    def total(cls, usages: Iterable[Usage | None]) -> Usage:
        """The sum; None counts as no usage."""
        return sum((usage for usage in usages if usage is not None), cls())
