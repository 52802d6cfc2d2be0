"""Small searches on the fake executor, and what must be true of what they leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lm_searcher.agent.loop.replay import Replayed, replay
from lm_searcher.agent.results.result import read_run
from lm_searcher.agent.search import Search
from lm_searcher.agent.study.events import Ask, End, Event, Lost, Recorded
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.run_records import RunRecords
from lm_searcher.agent.study.stop import Stop
from lm_searcher.agent.study.stored_run import StoredRun, stored_log, stored_run
from lm_searcher.spaces.history import Trial
from lm_searcher.spaces.space import SearchSpace

SPACE = SearchSpace.of("grid", {f"p{i}": [0, 1, 2, 3, 4] for i in range(4)})  # 625
MEMORY = {"start": 4, "interval": 2, "width": 1.0, "elites": 2, "stagnation": 6}


def measure(config: dict[str, int], seed: int) -> dict[str, float]:
    """A smooth objective with noise of the seed, and a cost."""
    clean = -sum((value - 3) ** 2 for value in config.values())
    return {"value": clean + seed % 1000 / 1000, "cost": float(sum(config.values()))}


def with_curve(config: dict[str, int], seed: int, report: Callable[[int, float], bool]) -> float:
    """The same, approached in four reports."""
    value = measure(config, seed)["value"]
    for step in range(1, 5):
        if report(step, value - 4 / step):
            return value - 4 / step
    return value


def search(folder: Path, evaluator: Callable[..., Any] | None = measure, **keywords: Any) -> Search:
    """A search of 9 trials in `folder`, confirmation included; `fake` are FakeSettings."""
    executor = {"kind": "fake", **keywords.pop("fake", {})}
    return Search(
        SPACE,
        evaluator,
        **{
            "trials": 9,
            "ranker": "evolution",
            "initial": 3,
            "seed": 7,
            "name": "run",
            "folder": folder,
            "executor": executor,
            "memory": MEMORY,
            "confirm": {"top": 1, "seeds": 2},
            **keywords,
        },
    )


def files(folder: Path) -> RunFiles:
    return RunFiles.of("run", folder, None)


@dataclass(frozen=True)
class Found:
    """What a run has come to; equal for two runs that went the same way."""

    trials: list[Trial]
    asks: list[Ask]
    decisions: dict[str, Any]
    confirmations: dict[str, Any]
    requests: dict[str, Any]
    stop: Stop | None
    best: list[Any]
    """The incumbent, or the front."""


def found(folder: Path) -> Found:
    """What a run in `folder` has come to."""
    run, log = stored_run(files(folder)), stored_log(files(folder))
    check_log(run, log)
    records, result = RunRecords.of(run.attributes), read_run(files(folder))
    return Found(
        [replace(trial, place="") for trial in run.trials],
        [event for event in log if isinstance(event, Ask)],
        {key: record.document for key, record in records.decisions.items()},
        {key: record.document for key, record in records.confirmations.items()},
        {key: record.document for key, record in records.picks.items()},
        records.stop,
        [result.incumbent or result.front],
    )


def check_log(run: StoredRun, log: list[Event]) -> None:
    """No trial is lost or doubled, each ended once, and each loss was followed by an attempt."""
    ncodes = [ncode for ask in log if isinstance(ask, Ask) for ncode in ask.ncodes]
    assert ncodes == [trial.ncode for trial in run.trials]
    assert [trial.number for trial in run.trials] == list(range(len(ncodes)))
    assert len(set(ncodes)) == len(ncodes)
    firsts, number = [ask.first for ask in log if isinstance(ask, Ask)], 0
    for ask, first in zip((a for a in log if isinstance(a, Ask)), firsts, strict=True):
        assert first == number
        number += len(ask.ncodes)
    ends = Counter((event.trial, event.state) for event in log if isinstance(event, End))
    assert ends == Counter((t.number, t.state) for t in run.trials if t.state.finished)
    losses = [(event.trial, event.attempt) for event in log if isinstance(event, Lost)]
    expected = [(t.number, attempt) for t in run.trials for attempt in range(1, t.attempt)]
    assert sorted(losses) == expected
    confirmed = Counter(
        event.key
        for event in log
        if isinstance(event, Recorded) and event.key.startswith("confirm:")
    )
    assert set(confirmed.values()) <= {1}


def replayed(folder: Path) -> Replayed:
    """What `lm-searcher replay` finds."""
    log = stored_log(files(folder))
    return replay(files(folder), stored_run(files(folder)), log)
