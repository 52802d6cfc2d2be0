"""The slash command nearest to a sentence, for a chat without a model."""

from __future__ import annotations

import re
from collections import Counter

from lm_searcher.agent.chat import slash
from lm_searcher.agent.toolbox.registry import TOOLS


def closest(sentence: str) -> str:
    """The command that shares the rarest words with a sentence; `help` if none does."""
    stems = _stems(sentence)
    vocabulary = {
        name: _stems(f"{name} {tool.description} {SYNONYMS.get(name, '')}")
        for name, tool in TOOLS.items()
    }
    counts = Counter(stem for found in vocabulary.values() for stem in found)

    def shared(name: str) -> float:
        in_name = stems & _stems(name)
        return sum(1 / counts[stem] for stem in stems & vocabulary[name]) + len(in_name)

    best = max(TOOLS, key=shared)
    return slash.short_names()[best] if shared(best) else "help"


SYNONYMS = {
    "start_search": "find optimise tune train launch cell architecture",
    "status": "going progress doing far along",
    "best": "result winner winning top",
    "stop": "cancel abort kill",
    "explain": "mattered important why pruned",
}
"""Words that users say for a tool, beside those of its name and description."""

EMPTY = re.compile(
    r"\b(the|and|for|are|was|has|can|now|how|what|which|that|this|there|with|good)\b"
)
"""Words that point to no command."""


def _stems(text: str) -> set[str]:
    words = EMPTY.sub(" ", text.lower().replace("_", " "))
    return {word[:5] for word in re.findall(r"[a-z]{3,}", words)}
