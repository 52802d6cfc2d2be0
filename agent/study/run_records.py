"""All records of a run, read from its attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import ValidationError

from lm_searcher.agent.study.records import (
    FORMAT,
    FULL,
    KINDS,
    WEIGHED,
    Confirmation,
    Decision,
    Identity,
    PickRequest,
    Weighed,
    is_of_many,
    is_request,
)
from lm_searcher.agent.study.stop import Ending, Stop
from lm_searcher.spaces.errors import StoreError


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
                if is_of_many(key):
                    name, model = KINDS[key.partition(":")[0]]
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


def _request_order(key: str) -> str:
    """By trial, then by the request's name, which tells when it was made."""
    return key.partition(":")[2]


def _weighed(stored: Any) -> int:
    """Formats 1 and 2 stored the number alone."""
    return stored if isinstance(stored, int) else Weighed.model_validate(stored).trials


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])
