"""Records of a run: one reader for what this and earlier versions wrote."""

from __future__ import annotations

from typing import Any

import pytest

from lm_searcher.agent.study.records import (
    FORMAT,
    Confirmation,
    Decision,
    PickRequest,
    is_request,
    memory_key,
    request_key,
)
from lm_searcher.agent.study.run_records import RunRecords
from lm_searcher.agent.study.stop import Stop, StopReason
from lm_searcher.spaces.errors import StoreError

STOPS = [
    Stop(reason=StopReason.TRIALS, limit=40),
    Stop(reason=StopReason.HOURS, limit=0.5),
    Stop(reason=StopReason.TARGET, limit=-1.25),
    Stop(reason=StopReason.PATIENCE, limit=15, detail="no change of the front"),
    Stop(reason=StopReason.EXHAUSTED),
    Stop(reason=StopReason.EXHAUSTED, detail=" but for what breaks params_m <= 1"),
    Stop(reason=StopReason.FAILURES, limit=10, detail="ValueError: a\nb"),
]


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: f"{stop.reason}")
def test_a_stop_is_read_as_a_record_and_as_the_text_of_format_1(stop: Stop) -> None:
    assert Stop.of(stop.document) == stop
    assert Stop.of(str(stop)) == stop
    assert stop.failed == (stop.reason is StopReason.FAILURES)


def test_an_unknown_text_is_kept() -> None:
    stop = Stop.of("the disk was full")
    assert stop == Stop(reason=StopReason.OTHER, detail="the disk was full")
    assert str(stop) == "the disk was full"
    assert Stop.of("") is Stop.of({}) is Stop.of(None) is None


DECISION = Decision(trial=20, action="prune", position="p", option=1, choice="b")
REQUESTED = Decision(trial=5, action="widen", position="p", option=0, choice="a", by="hand")
PICK = PickRequest(trial=6, action="pick", ncode="01", extra=True)
REFUSED = PickRequest(trial=7, action="pick", ncode="99", refused="no such code", wish="pick")
GOOD = Confirmation(seed=1, seconds=0.5, metrics={"acc": 0.9}, value=0.9)
BAD = Confirmation(seed=2, seconds=0.1, reason="out of memory")
OTHER = Confirmation(seed=1, budget={"epochs": 9}, metrics={"acc": 0.8}, value=0.8)


def test_every_record_survives_the_store() -> None:
    attributes: dict[str, Any] = {
        memory_key(20, 0): DECISION.document,
        request_key(REQUESTED, "x"): REQUESTED.document,
        request_key(PICK, "y"): PICK.document,
        request_key(REFUSED, "z"): REFUSED.document,
        Confirmation.key(3, 0): GOOD.document,
        Confirmation.key(3, 1): BAD.document,
        Confirmation.key(4, 0): OTHER.document,
        "weighed": 20,
        "id": "abc",
        "config": {"seed": 1},
    }
    records = RunRecords.of(attributes)
    assert records.settled() == [REQUESTED, DECISION], "in the order of trials"
    assert list(records.requests().values()) == [REQUESTED, PICK, REFUSED]
    assert all(is_request(key) for key in records.requests())
    assert records.confirmed() == {3: [GOOD, BAD]}, "another fidelity does not count"
    assert RunRecords.of(attributes | {"confirmed at": {"epochs": 9}}).confirmed() == {4: [OTHER]}
    assert records.id == "abc" and records.identity is None and records.stop is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (memory_key(20, 0), {"trial": "x"}),
        (memory_key(20, 0), 5),
        ("confirm:000003:000", {"value": 1.0}),
        ("request:000003:hand:a", []),
        ("stop", {"reason": "boredom"}),
        ("stop", 7),
    ],
)
def test_a_damaged_record_is_named(key: str, value: object) -> None:
    with pytest.raises(StoreError, match=f"'{key}'"):
        RunRecords.of({key: value})


def test_a_later_format_is_refused() -> None:
    assert RunRecords.of({"format": FORMAT}) == RunRecords.of({}), "format 1 is without the key"
    with pytest.raises(StoreError, match=f"format {FORMAT + 1}"):
        RunRecords.of({"format": FORMAT + 1})
