"""How long places of a Ray cluster stand idle between evaluations.

    RAY_AUTH_MODE=disabled python -m lm_searcher.evals.scale_ray [--gpus N] [--trials N]
        [--ranker random] [--json]

A real cluster of one node with GPUs that Ray believes in, on this machine; evaluations that sleep
0.2 to 2 s; a whole search with `--ranker`, else no controller beyond the executor. The idle share
is of all places, from the moment when all have begun an evaluation to the moment when the last is
submitted: what of that time no evaluation was asleep. It includes the fork of a process for each.
Slots take a minute to start on two cores: a search needs some thousand trials until all are there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import numpy as np

from lm_searcher.agent.search import Search
from lm_searcher.spaces.history import Trial
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.executors.cluster.executor import RayExecutor
from lm_searcher.tools.executors.protocol import Ended, Executor
from lm_searcher.tools.protocols import Evaluation, Outcome

SHORTEST, LONGEST = 0.2, 2.0


def nap(config: dict[str, Any]) -> dict[str, float]:
    """Sleep; when it began and ended, on this machine's clock."""
    began = time.monotonic()
    time.sleep(config["seconds"])
    return {"value": 0.0, "began": began, "ended": time.monotonic()}


def naps(count: int) -> Iterator[Evaluation]:
    """Evaluations of unequal length."""
    lengths = np.random.default_rng(0).uniform(SHORTEST, LONGEST, count)
    for key, seconds in enumerate(lengths):
        yield Evaluation(key, str(key), {"seconds": float(seconds)}, seed=0)


def idle_share(executor: Executor, count: int, places: int) -> dict[str, float]:
    """Keep `places` busy with `count` naps; the idle share, and what it cost."""
    queue, flying = naps(count), 0
    outcomes: list[Outcome] = []
    following = next(queue, None)
    last = 0.0
    costs = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    while following is not None or flying:
        while following is not None and executor.room():
            executor.submit(following)
            following, flying, last = next(queue, None), flying + 1, time.monotonic()
        for event in executor.poll(60.0):
            if isinstance(event, Ended):
                assert event.outcome is not None and event.outcome.reason is None, event
                outcomes.append(event.outcome)
                flying -= 1
    costs = resource.getrusage(resource.RUSAGE_SELF).ru_utime - costs
    first = sorted(outcome.metrics["began"] for outcome in outcomes)[places - 1]
    return _figures(outcomes, places, first, last, costs)


def _figures(
    outcomes: Sequence[Outcome | Trial], places: int, first: float, last: float, costs: float
) -> dict[str, float]:
    """The idle share from `first` to `last`."""
    began = np.array([outcome.metrics["began"] for outcome in outcomes])
    ended = np.array([outcome.metrics["ended"] for outcome in outcomes])
    seconds = np.array([outcome.seconds or 0.0 for outcome in outcomes])
    busy = np.clip(np.minimum(ended, last) - np.maximum(began, first), 0, None).sum()
    return {
        "idle share": 1 - busy / (places * (last - first)),
        "seconds": last - first,
        "trials a second": float(((began > first) & (began < last)).sum()) / (last - first),
        "controller ms a trial": 1e3 * costs / len(outcomes),
        "process ms a trial": 1e3 * float(np.mean(seconds - (ended - began))),
    }


SPACE = SearchSpace.of("naps", {f"p{i:02d}": list("abcdef") for i in range(12)})


def nap_by_code(config: dict[str, str], ncode: str) -> dict[str, float]:
    """A nap whose length is drawn by the architecture: without NumPy's generators, which each
    process would import."""
    seconds = random.Random(ncode).uniform(SHORTEST, LONGEST)
    value = sum("abcdef".index(option) for option in config.values())
    return nap({"seconds": seconds}) | {"value": float(value)}


def search_idle_share(address: str, ranker: str, count: int, places: int) -> dict[str, float]:
    """The same with a search: proposing, ranking, the store on disk, and the graph."""
    marks: list[float] = []

    def observe(event: Trial | str) -> None:
        if isinstance(event, Trial) and not event.state.finished:
            marks.append(time.monotonic())

    with tempfile.TemporaryDirectory() as folder:
        costs = time.process_time()
        result = Search(
            SPACE,
            nap_by_code,
            ranker=ranker,
            trials=count,
            folder=folder,
            name="naps",
            executor={"kind": "ray", "address": address, "gpus": 1},
            observe=observe,
        ).run()
        costs = time.process_time() - costs
    begins: dict[str, float] = {}
    for trial in result.trials:
        place, began = trial.place or "", trial.metrics["began"]
        begins[place] = min(began, begins.get(place, began))
    if len(begins) < places:
        raise SystemExit(f"only {len(begins)} of {places} slots had started: more --trials")
    return _figures(result.trials, places, max(begins.values()), marks[-1], costs)


@contextmanager
def local_cluster(gpus: int) -> Iterator[str]:
    """The address of a cluster on this machine; Ray must have read RAY_AUTH_MODE=disabled."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": os.cpu_count(), "num_gpus": gpus, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        yield str(cluster.address)
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


def measure(gpus: int, trials: int, ranker: str | None) -> dict[str, float]:
    """The figures of a cluster with so many GPUs."""
    with local_cluster(gpus) as address:
        if ranker is not None:
            return search_idle_share(address, ranker, trials, gpus)
        made = time.monotonic()
        with closing(RayExecutor(FunctionEvaluator(nap), address=address)) as executor:
            while executor.room() < gpus:
                executor.poll(0.0)
                time.sleep(0.1)
            started = time.monotonic() - made
            return {"start-up seconds": started} | idle_share(executor, trials, gpus)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--trials", type=int, default=1500)
    parser.add_argument("--ranker", help="a whole search with this ranker")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    row = measure(options.gpus, options.trials, options.ranker)
    if options.json:
        print(json.dumps(row))
    else:
        print("\n".join(f"{name:>24} {value:10.4f}" for name, value in row.items()))


if __name__ == "__main__":
    main()
