"""Regret of rankers on tabular benchmarks, through the product's own propose, rank and remember.

    python -m lm_searcher.evals.regret TABLE.npz:METRIC ... [--methods evolution,tpe,random]
        [--memory on,off] [--seeds 20] [--evaluations 100] [--marks 25,50,100] [--workers 2]

Normalised regret is (best - found) / (best - median) of the table: 0 is its best architecture,
1 no better than half of them. Every method gets the same first random trials for a seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.agent.search import Search
from lm_searcher.agent.store import MEMORY
from lm_searcher.spaces.table import Table, load_table
from lm_searcher.tools.evaluators.table import TableEvaluator


@cache
def _table(path: str, metric: str) -> Table:
    return load_table(path, metric=metric)


def curve(
    seed: int, *, path: str, metric: str, method: str, evaluations: int, memory: bool
) -> list[float]:
    """Normalised regret after each evaluation of one search."""
    table = _table(path, metric)
    evaluator = TableEvaluator(table, metric)
    sign = 1.0 if evaluator.direction == "max" else -1.0
    result = Search(
        table.space,
        evaluator,
        ranker=method,
        trials=evaluations,
        seed=seed,
        store=MEMORY,
        memory={"enabled": memory},
    ).run()
    values = sign * table.column(metric)
    best, median = np.nanmax(values), np.nanmedian(values)
    found = np.array([np.nan if v is None else sign * v for v in result.best_so_far()])
    regret: NDArray[np.float64] = (best - found) / (best - median)
    padded = np.pad(regret, (0, evaluations - len(regret)), mode="edge")
    return [float(v) for v in padded]


def summary(curves: Sequence[Sequence[float]], marks: Sequence[int]) -> dict[str, Any]:
    """Mean regret at the marks, its standard error, and the share of seeds at the best."""
    at = np.array(curves)[:, np.array(marks) - 1]
    error = at.std(axis=0, ddof=1) / np.sqrt(len(at)) if len(at) > 1 else np.zeros(len(marks))
    return {
        "regret": dict(zip(map(str, marks), at.mean(axis=0).round(4).tolist(), strict=True)),
        "standard_error": dict(zip(map(str, marks), error.round(4).tolist(), strict=True)),
        "found": dict(zip(map(str, marks), (at <= 1e-9).mean(axis=0).tolist(), strict=True)),
    }


def main() -> None:
    """Run the study and print one JSON line a table, method and memory setting."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("tables", nargs="+", help="FILE:METRIC")
    parser.add_argument("--methods", default="evolution,tpe,random")
    parser.add_argument("--memory", default="on")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--marks", default="25,50,100")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    marks = [int(m) for m in given.marks.split(",")]
    with ProcessPoolExecutor(given.workers) as pool:
        for entry in given.tables:
            path, _, metric = entry.rpartition(":")
            for method in given.methods.split(","):
                for memory in given.memory.split(","):
                    one = partial(
                        curve,
                        path=path,
                        metric=metric,
                        method=method,
                        evaluations=given.evaluations,
                        memory=memory == "on",
                    )
                    curves = list(pool.map(one, range(given.seeds)))
                    row = {
                        "table": Path(path).stem,
                        "metric": metric,
                        "method": method,
                        "memory": memory,
                        "seeds": given.seeds,
                    }
                    print(json.dumps(row | summary(curves, marks)), flush=True)


if __name__ == "__main__":
    main()
