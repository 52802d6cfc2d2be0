"""What a run stores beside its trials, as typed records with one reader and one writer.

Every record is one attribute of the run: `key` names the attribute, `document` is its JSON.
`RunRecords.of` reads them all; `TrialStore.write` writes one. Runs stored by earlier versions
read the same: where a form has changed, its model accepts the old one.

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

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import Field, ValidationError

from lm_searcher.agent.study.record import Record
from lm_searcher.agent.study.stop import Ending, Stop
from lm_searcher.spaces.errors import StoreError
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


@dataclass(frozen=True)
class RunRecords:
    """All records of a run, in the order of their keys."""

    id: str = ""
    identity: Identity | None = None
    stop: Stop | None = None
    ended: Ending | None = None
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """By key: of one trial memory's come first, then users'."""
    picks: Mapping[str, PickRequest] = field(default_factory=dict)
    confirmations: Mapping[str, Confirmation] = field(default_factory=dict)
    """Those at the run's present full fidelity."""
    full: Mapping[str, Any] = field(default_factory=dict)
    """The full fidelity of the confirmations; empty where it is the trials' own."""
    weighed: int = 0
    """Finished trials when memory last weighed the evidence."""
    forgiven: int = 0
    """Trials before the run was begun again after a stop by failures."""
    seconds: float | None = None
    """Wall-clock time in the loop over all processes; None where it was never stored."""

    @classmethod
    def of(cls, attributes: Mapping[str, Any]) -> Self:
        """The records among a run's attributes.

        Raises StoreError, naming the damaged record, and for a run of a later format.
        """
        if (version := attributes.get("format", 1)) not in range(1, FORMAT + 1):
            raise StoreError(
                f"the run is stored in format {version}; this version of lm-searcher reads 1 to "
                f"{FORMAT}: install a later one"
            )
        # Formats 1 and 2 kept no order; their keys are in the order of the trials.
        keys, key = list(attributes) if version > 2 else sorted(attributes), ""
        try:
            chosen: dict[str, dict[str, Any]] = {"decisions": {}, "picks": {}, "confirmations": {}}
            full = attributes.get(FULL, {})
            for key in keys:
                if _is_of_many(key):
                    name, model = _PREFIXES[key.partition(":")[0]]
                    chosen[name][key] = model.model_validate(attributes[key])
            key = "stop"
            stop = Stop.of(attributes.get(key))
            key = Ending.key
            ended = Ending.model_validate(attributes[key]) if key in attributes else None
            key = "identity"
            parts = {name: attributes.get(name) for name in Identity.model_fields}
            known = all(part is not None for part in parts.values())
            identity = Identity.model_validate(parts) if known else None
        except ValidationError as error:
            raise StoreError(f"the run's record '{key}' is damaged: {_first(error)}") from None
        at_full = {k: c for k, c in chosen["confirmations"].items() if c.budget == full}
        return cls(
            id=attributes.get("id", ""),
            identity=identity,
            stop=stop,
            ended=ended,
            decisions=chosen["decisions"],
            picks=chosen["picks"],
            confirmations=at_full,
            full=full,
            weighed=_weighed(attributes.get(WEIGHED, 0)),
            forgiven=attributes.get("forgiven", 0),
            seconds=attributes.get("seconds"),
        )

    def settled(self, trials: int | None = None) -> list[Decision]:
        """The decisions that stand, in order. Of memory's latest, none counts before all are
        stored: after a crash they are made again. Nor do, of a run that has so many `trials`,
        users' decisions for the next: they are applied when it is picked."""

        def stands(key: str, decision: Decision) -> bool:
            if is_request(key):
                return trials is None or decision.trial < trials
            return decision.trial <= self.weighed

        return [decision for key, decision in self.decisions.items() if stands(key, decision)]

    def requests(self) -> dict[str, Decision | PickRequest]:
        """What users asked for, by key."""
        asked: dict[str, Decision | PickRequest] = dict(self.picks)
        asked |= {k: d for k, d in self.decisions.items() if is_request(k)}
        return {key: asked[key] for key in sorted(asked, key=_request_order)}

    def confirmed(self) -> dict[int, list[Confirmation]]:
        """The confirmations by trial number, failed ones included, in the order of their repeats:
        several may run at a time."""
        found: dict[int, list[Confirmation]] = {}
        for key, confirmation in sorted(self.confirmations.items()):
            found.setdefault(int(key.split(":")[1]), []).append(confirmation)
        return found


FULL = "confirmed at"
"""The attribute with the full fidelity of the confirmations."""

_PREFIXES: dict[str, tuple[str, type[Record]]] = {
    "memory": ("decisions", Decision),
    "request": ("picks", PickRequest),
    "confirm": ("confirmations", Confirmation),
}


def _request_order(key: str) -> str:
    """By trial, then by the request's name, which tells when it was made."""
    return key.partition(":")[2]


def _weighed(stored: Any) -> int:
    """Formats 1 and 2 stored the number alone."""
    return stored if isinstance(stored, int) else Weighed.model_validate(stored).trials


def memory_key(trial: int, place: int) -> str:
    """The attribute of memory's `place`-th decision before trial `trial`."""
    return f"memory:{trial:06d}:{place:03d}"


def request_key(record: Decision | PickRequest, request: str) -> str:
    """The attribute of a user's request; `request` is the name of its file."""
    kind = "request" if isinstance(record, PickRequest) else "memory"
    return f"{kind}:{record.trial:06d}:{USER}:{request}"


def is_record(key: str) -> bool:
    """Whether an attribute is an entry of the run's log, and not the run's own."""
    return key in (WEIGHED, CONFIG) or _is_of_many(key)


def _is_of_many(key: str) -> bool:
    """Whether the key is that of one of many records of its kind."""
    return ":" in key and key.partition(":")[0] in _PREFIXES


def is_request(key: str) -> bool:
    """Whether an attribute is a user's request."""
    return f":{USER}:" in key


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])
