"""The overhead of the controller for each trial: time and disk, early and late in a long run.

    python -m lm_searcher.evals.overhead [--trials 5000] [--store URL]
        [--table FILE.npz --metric NAME]

The evaluator is a table look-up in the controller's process, so the measured time is that of
proposing, ranking, storing and memory. The default table is a synthetic one on the
NAS-Bench-201 space.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from lm_searcher.agent.search import Search
from lm_searcher.agent.study.storage import MEMORY, shown
from lm_searcher.spaces.builtin import builtin
from lm_searcher.spaces.history import History, Trial
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.spaces.table_files import load_table
from lm_searcher.spaces.tables import Table
from lm_searcher.tools.evaluators.table import TableEvaluator
from lm_searcher.tools.proposer import Proposer


def synthetic_table() -> Table:
    """Random additive values on every NAS-Bench-201 cell."""
    rng = np.random.default_rng(0)
    space = builtin("nb201")
    codes = space.enumerate()
    effects = rng.normal(size=(len(space.positions), int(space.cardinalities.max())))
    values = effects[np.arange(codes.shape[1]), codes].sum(axis=1)
    return Table(space, codes, {"value": values}, {"value": "max"})


def measure(
    table: Table,
    metric: str,
    trials: int,
    ranker: str,
    store: str | None,
) -> dict[str, Any]:
    """Milliseconds for each trial in an early and a late window, and bytes of disk."""
    marks: list[float] = []

    def observe(event: Trial | str) -> None:
        if isinstance(event, Trial) and event.state.finished:
            marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        search = Search(
            table.space,
            TableEvaluator(table, metric),
            ranker=ranker,
            trials=trials,
            store=store,
            folder=folder,
            name="overhead",
            observe=observe,
        )
        search.run()
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    steps = np.diff(marks) * 1000
    late = max(0, len(steps) - 100)
    return {
        "ranker": ranker,
        "store": shown(store) if store else "sqlite",
        "trials": trials,
        "ms_a_trial": round(float(steps.mean()), 2),
        "ms_100_to_200": round(float(steps[100:200].mean()), 2),
        f"ms_{late}_to_{len(steps)}": round(float(steps[late:].mean()), 2),
        "late_over_early": round(float(steps[late:].mean() / steps[100:200].mean()), 2),
        "bytes_a_trial": round(size / trials),
    }


def propose_large(repeats: int = 20) -> dict[str, float]:
    """Milliseconds to draw 1,000 candidates of 60 positions x 8 options after 200 trials."""
    space = SearchSpace.of("large", {f"p{i}": list("abcdefgh") for i in range(60)})
    rng = np.random.default_rng(0)
    codes = space.sample(200, rng)
    none = np.zeros(200, bool)
    history = History(codes, rng.normal(size=200), none, none)
    proposer, subspace = Proposer(space, size=1000), Subspace.full(space)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        pool = proposer.pool(history, subspace, rng)
        times.append(1000 * (time.perf_counter() - began))
    return {
        "architectures": float(space.size),
        "candidates": len(pool),
        "ms_median": round(float(np.median(times)), 2),
        "ms_most": round(max(times), 2),
    }


def main() -> None:
    """Measure and print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--ranker", default="evolution")
    parser.add_argument("--store", help="a store URL beside memory and SQLite")
    parser.add_argument("--table", type=Path)
    parser.add_argument("--metric", default="value")
    given = parser.parse_args()
    table = load_table(given.table, metric=given.metric) if given.table else synthetic_table()
    print(json.dumps({"propose": propose_large()}))
    for store in (MEMORY, None, *([given.store] if given.store else [])):
        row = measure(table, given.metric, given.trials, given.ranker, store)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
