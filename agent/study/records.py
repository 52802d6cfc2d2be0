"""What a run stores beside its trials, as typed records with one reader and one writer.

Every record is one attribute of the run: `key` names the attribute, `document` is its JSON.
`RunRecords.of` (run_records.py) reads them all; `TrialStore.write` writes one. Runs of earlier
versions read the same: where a form has changed, its model accepts the old one.

    attribute                     record
    space, objective, ...         Identity       what makes two processes' trials comparable
    stop                          Stop           why the run ended
    ended                         Ending         why it ended before, of a run that goes on
    weighed                       Weighed        when memory last weighed the evidence
    config                        (settings)     what drives the run now
    memory:TRIAL:N                Decision       an option that memory pruned or widened
    memory:TRIAL:hand:REQUEST     Decision       an option that a user pruned or widened
    request:TRIAL:hand:REQUEST    PickRequest    an architecture that a user asked for
    confirm:TRIAL:REPEAT          Confirmation   one training of a finalist with a fresh seed
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from lm_searcher.agent.study.record import Record
from lm_searcher.spaces.ncode import NCode

FORMAT = 3
"""The version of the stored form; runs without the attribute `format` are of version 1. Versions 1
and 2 were Optuna studies (optuna_format.py)."""

WEIGHED = "weighed"
"""The attribute that tells when memory last weighed the evidence."""

CONFIG = "config"
"""The attribute with the settings of the process that drives the run."""

USER = "hand"
"""Marks the records of users' requests, in keys and in `Decision.by`."""


class Identity(Record):
    """What makes the trials of two processes comparable; a run goes on only with the same."""

    space: dict[str, Any]
    objective: dict[str, Any]
    evaluator: dict[str, Any]
    seed: int


class Decision(Record):
    """An option that is searched no more, or again: by memory on evidence, or by a user."""

    trial: int
    """The number of the trial that comes next."""
    action: Literal["prune", "widen"]
    position: str
    option: int
    choice: Any = None
    evidence: dict[str, Any] | None = None
    by: str = ""
    """`USER` for a request; empty for memory."""


class Weighed(Record):
    """Memory has weighed the evidence of so many finished trials."""

    trials: int


class PickRequest(Record):
    """A user's request that was taken up before trial `trial`: an architecture to evaluate."""

    trial: int
    action: Literal["pick"]
    ncode: NCode = ""
    extra: bool = False
    """Evaluated even if the search would end."""
    seed: int | None = None
    """The seed of the training that was asked for."""
    refused: str = ""
    """Why the request could not be met; empty if it was."""
    wish: str = ""
    """The refused request's action."""


class Confirmation(Record):
    """One training of a finalist with a fresh seed: metrics, or the reason of its failure."""

    seed: int
    seconds: float = 0.0
    budget: dict[str, Any] = Field(default_factory=dict)
    """Settings of full fidelity, where the search's trials have less."""
    metrics: dict[str, float] | None = None
    value: float | None = None
    reason: str | None = None

    @staticmethod
    def key(number: int, repeat: int) -> str:
        """The attribute of the `repeat`-th confirmation of trial `number`."""
        return f"confirm:{number:06d}:{repeat:03d}"


FULL = "confirmed at"
"""The attribute with the full fidelity of the confirmations."""

KINDS: dict[str, tuple[str, type[Record]]] = {
    "memory": ("decisions", Decision),
    "request": ("picks", PickRequest),
    "confirm": ("confirmations", Confirmation),
}


def memory_key(trial: int, place: int) -> str:
    """The attribute of memory's `place`-th decision before trial `trial`."""
    return f"memory:{trial:06d}:{place:03d}"


def request_key(record: Decision | PickRequest, request: str) -> str:
    """The attribute of a user's request; `request` is the name of its file."""
    kind = "request" if isinstance(record, PickRequest) else "memory"
    return f"{kind}:{record.trial:06d}:{USER}:{request}"


def is_record(key: str) -> bool:
    """Whether an attribute is an entry of the run's log, and not the run's own."""
    return key in (WEIGHED, CONFIG) or is_of_many(key)


def is_of_many(key: str) -> bool:
    """Whether the key is that of one of many records of its kind."""
    return ":" in key and key.partition(":")[0] in KINDS


def is_request(key: str) -> bool:
    """Whether an attribute is a user's request."""
    return f":{USER}:" in key
