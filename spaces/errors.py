"""What can go wrong, as one tree.

LMSearcherError
├── UserError              the user's to mend: one line, exit code 2
│   ├── SpaceError         a search space that makes no sense, or is unknown
│   ├── NCodeError         a code of the wrong length or with a wrong digit
│   ├── TableError         a table that is missing, damaged or disagrees with its card
│   ├── DatasetError       a data set that is missing, truncated or of another format
│   ├── ConfigError        a run file with an unknown key or a bad value
│   ├── EvaluatorError     an evaluator that does not import or start
│   ├── RankerError        a model or a server that a ranker cannot work with
│   ├── StoreError         a trial store that is locked, foreign or no database
│   ├── ChatError          a chat model, or a session, that cannot go on
│   └── TrainingError      a ranker's training that cannot begin or go on
└── TrialFailure           one evaluation failed; becomes a failed trial with this reason
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LMSearcherError(Exception):
    """Base of everything this package raises on purpose."""


class UserError(LMSearcherError):
    """A mistake that the user can mend; the message names the place and what is accepted."""


class SpaceError(UserError):
    """A search space that makes no sense, or is unknown."""


class NCodeError(UserError):
    """An NCode of the wrong length or with a digit that names no option."""


class TableError(UserError):
    """A tabular benchmark that is missing, damaged, or disagrees with its card."""


class DatasetError(UserError):
    """A data set that is missing, truncated, or of another format."""


class ConfigError(UserError):
    """A run file with an unknown key or a bad value."""


class EvaluatorError(UserError):
    """An evaluator that does not import or does not start."""


class RankerError(UserError):
    """A model, or a server of one, that a ranker cannot work with."""


class StoreError(UserError):
    """A trial store that is locked, belongs to another search, or is no database."""


class ChatError(UserError):
    """A chat model that cannot be reached or used, or a session that is in use."""


class TrainingError(UserError):
    """A ranker's training that cannot begin or go on: its checkpoint, device or loss."""


class TrialFailure(LMSearcherError):
    """One evaluation failed; the message is the failed trial's reason."""


def unknown(what: str, name: str, valid: Iterable[str]) -> str:
    """One line for an unknown name: the nearest valid one, then all of them."""
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
