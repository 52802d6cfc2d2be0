"""What the controller costs beyond one machine: idle places, a trial's overhead, a long run.

    python -m lm_searcher.evals.scale idle [--places 1000] [--mean 60] [--ranker local]
    python -m lm_searcher.evals.scale store [--store URL] [--group 16]
    python -m lm_searcher.evals.scale length [--trials 100000]

`idle` simulates the places, and measures the decisions (simulated_places.py). `store` measures
what a trial costs in store and executor, in groups that end together. `length` compares the
beginning of a long run with its end. For real places see scale_ray.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lm_searcher.agent.loop.stopping import Interrupted
from lm_searcher.agent.search import Search
from lm_searcher.agent.study.events import Ask
from lm_searcher.agent.study.opening import opened
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.storage import MEMORY, shown
from lm_searcher.evals.simulated_places import SimulatedSettings
from lm_searcher.spaces.history import Trial
from lm_searcher.spaces.ncode import to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.executors.inline import InlineExecutor
from lm_searcher.tools.executors.protocol import Ended
from lm_searcher.tools.protocols import Evaluation, Evaluator

SPACE = SearchSpace.of("large", {f"p{i:02d}": list("abcdef") for i in range(12)})
"""Two billion architectures, so that a long run does not exhaust them."""

_EFFECTS = np.random.default_rng(0).normal(size=(12, 6))


def measured(config: dict[str, str]) -> dict[str, float]:
    """A sum of option effects."""
    effects = (_EFFECTS[i, "abcdef".index(o)] for i, o in enumerate(config.values()))
    return {"value": float(sum(effects))}


def look_up() -> Evaluator:
    """An evaluator that costs next to nothing, in the controller's process."""
    return FunctionEvaluator(measured, inline=True)


def idle(places: int, mean: float, ranker: str, rounds: float) -> dict[str, Any]:
    """The idle share of simulated places, once each has had its first trial."""
    executor = SimulatedSettings(workers=places, mean=mean, rounds=rounds)
    search = Search(SPACE, look_up(), ranker=ranker, trials=10**9, store=MEMORY)
    search.problem = replace(search.problem, settings=search.settings.changed(executor=executor))
    with search, contextlib.suppress(Interrupted):
        search.run()
    waits = executor.made.idle
    since, until = waits[0][0], waits[-1][0]
    return {
        "places": places,
        "mean_s": mean,
        "ranker": ranker,
        "trials": places + len(waits),
        "decisions": executor.made.decisions,
        "simulated_s": round(until - since, 1),
        "idle_share": round(executor.made.idle_share(since, until), 4),
    }


def store(url: str | None, group: int, trials: int) -> dict[str, Any]:
    """Milliseconds a trial of store and executor, where trials end in groups."""
    evaluator = look_up()
    problem = Search(SPACE, evaluator, store=url, seed=1).problem
    codes = iter(to_ncodes(SPACE.sample(trials + group, np.random.default_rng(0))))
    executor = InlineExecutor(evaluator, group)
    with tempfile.TemporaryDirectory() as folder:
        name = f"scale-{uuid.uuid4().hex[:8]}"
        files = RunFiles.of(name, Path(folder), url)
        with opened(files, SPACE, problem.objectives, problem.identity, None, {}) as log:
            began = time.perf_counter()
            while len(log) < trials:
                first, ncodes = len(log), [next(codes) for _ in range(group)]
                with log.tick():
                    log.log(Ask(first=first, n=group, ncodes=tuple(ncodes)))
                    for ncode in ncodes:
                        log.add(ncode, 0, "none")
                    begun = [log.begin(number) for number in log.waiting]
                for trial in begun:
                    config = SPACE.decode(trial.ncode)
                    executor.submit(Evaluation(trial.number, trial.ncode, config, 0))
                ended = [e for _ in begun for e in executor.poll(1.0) if isinstance(e, Ended)]
                with log.tick():
                    for event in ended:
                        assert event.outcome is not None
                        log.finish(event.key, event.outcome)
            seconds = time.perf_counter() - began
    ms = round(1000 * seconds / trials, 3)
    return {"store": shown(url) if url else "sqlite", "group": group, "ms_a_trial": ms}


def length(trials: int, ranker: str, url: str | None) -> dict[str, Any]:
    """Processor time a trial early and late in a long run, and the controller's memory."""
    marks: list[float] = []

    def observe(event: Trial | str) -> None:
        if isinstance(event, Trial) and event.state.finished:
            marks.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        Search(
            SPACE,
            look_up(),
            ranker=ranker,
            trials=trials,
            store=url,
            folder=folder,
            name="length",
            observe=observe,
        ).run()
    steps = 1000 * np.diff(marks)
    early, late = float(steps[1000:2000].mean()), float(steps[-1000:].mean())
    return {
        "ranker": ranker,
        "trials": trials,
        "ms_1000_to_2000": round(early, 2),
        "ms_last_1000": round(late, 2),
        "late_over_early": round(late / early, 2),
        "memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }


def main() -> None:
    """Measure and print a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=["idle", "store", "length"])
    parser.add_argument("--places", type=int, default=1000)
    parser.add_argument("--mean", type=float, default=60.0, help="seconds of a trial")
    parser.add_argument("--rounds", type=float, default=2.0, help="how many means to simulate")
    parser.add_argument("--ranker", default="local")
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--store", help="a store URL; default: SQLite in a temporary folder")
    given = parser.parse_args()
    if given.what == "idle":
        row = idle(given.places, given.mean, given.ranker, given.rounds)
    elif given.what == "store":
        row = store(given.store, given.group, min(given.trials, 3200))
    else:
        row = length(given.trials, given.ranker, given.store)
    print(json.dumps(row))


if __name__ == "__main__":
    main()
