"""Runs for the tests of the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lm_searcher.agent.study.events import Event, Recorded
from lm_searcher.agent.study.identity import describe_space, stored_space
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.opening import opened
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.records import CONFIG, Identity
from lm_searcher.agent.study.run_records import RunRecords
from lm_searcher.agent.study.stored_run import stored_run
from lm_searcher.agent.study.trial_store import TrialStore
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.usage import Usage
from lm_searcher.tools.protocols import Outcome

SPACE = SearchSpace.of("s", {"width": [16, 32, 64], "act": ["relu", "gelu"], "bias": [True, False]})
NOWHERE = Path("no-such-folder")


def files_of(url: str, name: str = "run") -> RunFiles:
    return RunFiles(name, url, NOWHERE)


def identity(objectives: ObjectiveSet) -> Identity:
    return Identity(
        space=describe_space(SPACE), objective=objectives.to_json(), evaluator={}, seed=0
    )


@contextmanager
def open_store(
    url: str, name: str = "run", direction: str = "max", pruner: Any = None, **options: Any
) -> Iterator[TrialStore]:
    """The store of a run of SPACE, driven by this process meanwhile."""
    aims = ObjectiveSet.of("value", direction)
    files = files_of(url, name)
    with opened(files, SPACE, aims, identity(aims), pruner, {}, **options) as store:
        yield store


@contextmanager
def driving(files: RunFiles, **changes: Any) -> Iterator[TrialStore]:
    """The store of a run that is there, driven by this process meanwhile, with changed settings."""
    attributes = stored_run(files).attributes
    same, config = RunRecords.of(attributes).identity, dict(attributes[CONFIG]) | changes
    assert same is not None
    space, objectives = stored_space(same.space), ObjectiveSet.stored(same.objective)
    with opened(files, space, objectives, same, None, config) as store:
        yield store


def timeless(trials: Iterable[Trial]) -> list[Trial]:
    """Trials without the times when they began and ended."""
    return [replace(trial, began=None, ended=None) for trial in trials]


def log_of(store: TrialStore) -> list[Event]:
    """The log without the settings, which an opening records if they are new."""
    return [e for e in store.events() if not (isinstance(e, Recorded) and e.key == CONFIG)]


def start(
    store: TrialStore, ncode: str, seed: int = 0, ranker: str = "random", **usage: int
) -> int:
    """The number of a new trial that runs."""
    with store.tick():
        return store.begin(store.add(ncode, seed, ranker, usage).number).number


def fill(store: TrialStore) -> None:
    """A trial of each kind; EXPECTED is what they become."""
    start(store, "000", 11)
    store.report(0, 1, 0.25)
    store.report(0, 2, 0.5)
    store.finish(0, Outcome({"value": 0.5, "params": 3.0}, 1.23456))
    start(store, "211", 12, "tpe", decisions=1, asks=2)
    store.finish(1, Outcome({}, 2.0, "out of memory"))
    start(store, "110", 13, "tpe")
    store.report(2, 1, 0.125)
    store.place(2, "node-3 gpu 1")
    store.finish(2, Outcome({"value": 0.125}, 0.5, stopped=True), fidelity=0.25)
    start(store, "201", 14, "tpe")


EXPECTED = [
    Trial(
        0,
        "000",
        TrialState.COMPLETE,
        0.5,
        {"value": 0.5, "params": 3.0},
        seed=11,
        seconds=1.2346,
        curve=(0.25, 0.5),
        values=(0.5,),
    ),
    Trial(
        1,
        "211",
        TrialState.FAIL,
        seed=12,
        reason="out of memory",
        seconds=2.0,
        usage=Usage(decisions=1, asks=2),
    ),
    Trial(
        2,
        "110",
        TrialState.PRUNED,
        0.125,
        {"value": 0.125},
        seed=13,
        fidelity=0.25,
        seconds=0.5,
        curve=(0.125,),
        values=(0.125,),
        place="node-3 gpu 1",
    ),
    Trial(3, "201", TrialState.RUNNING, seed=14),
]
