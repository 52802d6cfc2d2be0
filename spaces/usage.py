"""What it took to ask a language model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Usage:
    """What one decision of a ranker that asks a model took, or several of them together."""

    decisions: int = 0
    """Rankings that were to be asked for."""
    asks: int = 0
    """Requests that were answered, rightly or not."""
    reasks: int = 0
    """Asks repeated because the reply was wrong; they are among `asks`."""
    retries: int = 0
    """Requests that got no answer and were sent again."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    """In the currency of the prices; 0 where none are given."""
    fallbacks: int = 0
    """Decisions that the fallback ranker made instead of the model."""
    reason: str = ""
    """Why the fallback ranker decided, the latest time; empty if it never did."""

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
        """In words, on one line."""
        parts = [f"{self.decisions - self.fallbacks} of {self.decisions} decisions"]
        asked = f"{self.asks:,} asks"
        again = f"{self.reasks} re-asks" * bool(self.reasks)
        retried = f"{self.retries} retries" * bool(self.retries)
        if more := ", ".join(filter(None, (again, retried))):
            asked += f" ({more})"
        parts += [asked, f"{self.prompt_tokens:,} + {self.completion_tokens:,} tokens"]
        if self.cost:
            parts.append(f"cost {self.cost:.4f}")
        if self.fallbacks:
            parts.append(f"{self.fallbacks} by the fallback, the last: {self.reason}")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """What is not nothing, as plain data."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Usage:
        """From plain data; what another version stored besides is passed over."""
        names = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in stored.items() if name in names})

    @classmethod
    def total(cls, accounts: Iterable[Usage | None]) -> Usage:
        """All of them together."""
        return sum((a for a in accounts if a is not None), cls())
