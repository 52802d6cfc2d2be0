"""The exceptions of the package, as one tree.

LMSearcherError
├── UserError              a mistake of the user: one line, exit code 2
│   ├── SpaceError         a search space that is invalid or unknown
│   ├── NCodeError         an NCode of the wrong length or with a wrong digit
│   ├── TableError         a table that is missing, damaged, or differs from its card
│   ├── DatasetError       a data set that is missing, truncated or of another format
│   ├── ConfigError        a run file with an unknown key or a bad value
│   ├── EvaluatorError     an evaluator that does not import or start
│   ├── RankerError        a model or a server that a ranker cannot use
│   ├── StoreError         a trial store that is locked, foreign or no database
│   ├── ChatError          a chat model or a session that cannot be used
│   └── TrainingError      a ranker's training that cannot start or resume
└── TrialFailure           one evaluation failed; becomes a failed trial with this reason
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LMSearcherError(Exception):
    """Base of everything this package raises on purpose."""


class UserError(LMSearcherError):
    """A mistake that the user can correct; the message says where, and what is accepted."""


class SpaceError(UserError):
    """A search space that is invalid or unknown."""


class NCodeError(UserError):
    """An NCode of the wrong length, or with a digit that is no option."""


class TableError(UserError):
    """A tabular benchmark that is missing, damaged, or differs from its card."""


class DatasetError(UserError):
    """A data set that is missing, truncated, or of another format."""


class ConfigError(UserError):
    """A run file with an unknown key or a bad value."""


class EvaluatorError(UserError):
    """An evaluator that does not import or does not start."""


class RankerError(UserError):
    """A model, or a server of one, that a ranker cannot use."""


class StoreError(UserError):
    """A trial store that is locked, belongs to another search, or is no database."""


class ChatError(UserError):
    """A chat model that cannot be reached or used, or a session that is in use."""


class TrainingError(UserError):
    """A ranker's training that cannot start or resume: its checkpoint, device or loss."""


class TrialFailure(LMSearcherError):
    """One evaluation failed; the message is the failed trial's reason."""


def unknown(what: str, name: str, valid: Iterable[str]) -> str:
    """A message for an unknown name: the most similar valid name, then all valid names."""
    names = sorted(valid)
    if not names:
        return f"unknown {what} '{name}': there is none"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return f"unknown {what} '{name}'{hint} (accepted: {', '.join(names)})"


def one_line(error: BaseException, limit: int | None = None) -> str:
    """The message of an exception on one line, cut to `limit` characters.

    The name of its class if the message is empty.
    """
    return " ".join(str(error).split())[:limit] or type(error).__name__


def first_line(error: BaseException, limit: int = 200) -> str:
    """As `one_line`, but only the first line: libraries often add pages of advice."""
    first = str(error).strip().partition("\n")[0]
    return " ".join(first.split())[:limit] or type(error).__name__
