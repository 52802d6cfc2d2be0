"""The base class of rankers that ask a model, which reads only a few of the candidates.

A pool has a thousand candidates or more, a prompt has room for tens. So a fallback ranker orders
the pool first. Half of the short list are the best candidates of that order, so that neighbours of
good trials are on it (a perfect choice from uniform candidates alone loses to plain evolution,
PAPER.md). The other half is drawn uniformly from the rest, so that the model can overrule the
fallback. Candidates that the model does not rank follow in the fallback's order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lm_searcher.prompts.history import Entry
from lm_searcher.spaces.errors import ConfigError, unknown
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes, NCode, to_ncodes
from lm_searcher.spaces.usage import Usage
from lm_searcher.tools.protocols import Ranker, Ranking


@dataclass(frozen=True)
class ShortlistQuery:
    """A short list of candidates to choose from, with the history."""

    candidates: list[NCode]
    """In random order, because models prefer certain places in a list."""
    history: list[Entry]
    """Finished trials with their scores; None for a failed trial."""
    pending: list[NCode]
    seed: int


class NoAnswer(Exception):
    """The model gave no usable answer; the message is one line without secrets."""


class ShortlistRanker(ABC):
    """An AskingRanker whose subclass implements `choose`.

    `candidates` is the length of the short list. See tools/protocols.py for the attributes.
    """

    def __init__(self, fallback: Ranker, candidates: int) -> None:
        self.fallback = fallback
        self.candidates = candidates
        self.usage = Usage()
        self.spent = Usage()
        self.notes: list[str] = []
        self._said: set[str] = set()

    @abstractmethod
    def choose(self, query: ShortlistQuery) -> list[int]:
        """Indices of the best candidates, best first: at least one, of at least two candidates.

        Adds the cost of each request to `self.usage`. Raises NoAnswer, RankerError, Cancelled.
        """

    def rank(self, pool: Codes, history: History, *, seed: int) -> Ranking:
        """See Ranker."""
        order = self.fallback.rank(pool, history, seed=seed)
        self.usage = Usage()
        if len(pool) == 1:
            return order
        rows = shortlist(order, self.candidates, seed)
        self.usage = Usage(decisions=1)
        try:
            chosen = rows[self.choose(_query(pool[rows], history, seed))]
        except NoAnswer as error:
            self.usage = replace(self.usage, fallbacks=1, reason=str(error))
            return order
        finally:
            self.spent += self.usage
        left = np.ones(len(pool), dtype=bool)
        left[chosen] = False
        return np.concatenate([chosen, order[left[order]]])

    def say_once(self, note: str) -> None:
        """Add a note for the user, unless the same note was added before."""
        if note not in self._said:
            self._said.add(note)
            self.notes.append(note)


def shortlist(order: Ranking, n: int, seed: int) -> NDArray[np.intp]:
    """`n` rows of the pool in random order: half are the first of `order`, half from the rest."""
    rng = np.random.default_rng([seed, len(order), 0x5107])
    first = -(-n // 2)
    rest = order[first:]
    drawn = rng.choice(rest, min(n - first, len(rest)), replace=False)
    rows: NDArray[np.intp] = rng.permutation(np.concatenate([order[:first], drawn]))
    return rows


def entries(history: History) -> list[Entry]:
    """The finished trials in the form that prompts take."""
    codes = to_ncodes(history.codes)
    return [
        (code, None if np.isnan(score) else float(score))
        for code, score, pending in zip(codes, history.scores, history.pending, strict=True)
        if not pending
    ]


def _query(candidates: Codes, history: History, seed: int) -> ShortlistQuery:
    pending = to_ncodes(history.codes[history.pending])
    return ShortlistQuery(to_ncodes(candidates), entries(history), pending, seed)


Kind = TypeVar("Kind")


def settings_of(kind: type[Kind], name: str, given: Mapping[str, Any], **known: Any) -> Kind:
    """The dataclass `kind` of a ranker's settings: those of [ranker], and what is known besides.

    Raises ConfigError for a key that this ranker does not take.
    """
    accepted = {f.name for f in fields(kind)} - set(known)  # type: ignore[arg-type]
    for key in given:
        if key not in accepted:
            raise ConfigError(unknown(f"key in [ranker] for '{name}'", key, accepted))
    return kind(**known, **given)
