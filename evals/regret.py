"""Regret of rankers on tabular benchmarks, through the product's own propose, rank and remember.

    python -m lm_searcher.evals.regret TABLE.npz:METRIC chain:40x6:0 ...
        [--methods evolution,tpe,random]
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
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lm_searcher.agent.search import Search
from lm_searcher.agent.store import MEMORY
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.table import Table, load_table
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.evaluators.table import TableEvaluator
from lm_searcher.tools.protocols import Evaluator


class Benchmark(Protocol):
    """An objective whose best value is known."""

    space: SearchSpace
    best: float
    median: float

    def evaluator(self) -> Evaluator:
        """Measures the objective; more is better after `sign`."""
        ...


@cache
def benchmark(path: str, metric: str) -> Benchmark:
    """The table at `path`, or `chain:POSITIONSxOPTIONS` with its number in place of a metric."""
    if path.startswith("chain:"):
        positions, options = path.removeprefix("chain:").split("x")
        return Chain(int(positions), int(options), int(metric))
    return TableBenchmark(load_table(path, metric=metric), metric)


class TableBenchmark:
    """A tabular benchmark, its best and median over all rows."""

    def __init__(self, table: Table, metric: str) -> None:
        self.table, self.metric, self.space = table, metric, table.space
        self.sign = 1.0 if self.evaluator().direction == "max" else -1.0
        values = self.sign * table.column(metric)
        self.best, self.median = float(np.nanmax(values)), float(np.nanmedian(values))

    def evaluator(self) -> Evaluator:
        """See Benchmark."""
        return TableEvaluator(self.table, self.metric)


class Chain:
    """A large made-up space whose best is known exactly: effects of options, some positions
    mattering far more than others, and interactions of neighbouring positions."""

    def __init__(self, positions: int, options: int, number: int) -> None:
        rng = np.random.default_rng([positions, options, number])
        self.space = SearchSpace.of(
            "chain", {f"p{i}": list(range(options)) for i in range(positions)}
        )
        weight = rng.gamma(0.5, size=positions)[:, None]
        self.single = weight * rng.normal(size=(positions, options))
        pairs = rng.normal(size=(positions - 1, options, options))
        self.pair = 0.5 * np.sqrt(weight[1:] * weight[:-1])[:, :, None] * pairs
        ahead = self.single[0]  # the best of all chains that end in each option
        for single, pair in zip(self.single[1:], self.pair, strict=True):
            ahead = (ahead[:, None] + pair).max(axis=0) + single
        self.best = float(ahead.max())
        self.median = float(np.median(self(self.space.sample(20_000, rng))))

    def __call__(self, codes: Codes) -> NDArray[np.float64]:
        """The objective of each row, shape [n]."""
        places = np.arange(codes.shape[1])
        value = self.single[places, codes].sum(axis=1)
        value += self.pair[places[:-1], codes[:, :-1], codes[:, 1:]].sum(axis=1)
        return np.asarray(value)

    def evaluator(self) -> Evaluator:
        """See Benchmark."""
        function = FunctionEvaluator(
            lambda config, ncode: float(self(self.space.codes([ncode]))[0])
        )
        function.inline = True
        return function


def curve(
    seed: int, *, path: str, metric: str, method: str, evaluations: int, memory: bool
) -> list[float]:
    """Normalised regret after each evaluation of one search."""
    problem = benchmark(path, metric)
    evaluator = problem.evaluator()
    sign = 1.0 if evaluator.direction == "max" else -1.0
    result = Search(
        problem.space,
        evaluator,
        ranker=method,
        trials=evaluations,
        seed=seed,
        store=MEMORY,
        memory={"enabled": memory},
    ).run()
    found = np.array([np.nan if v is None else sign * v for v in result.best_so_far()])
    regret: NDArray[np.float64] = (problem.best - found) / (problem.best - problem.median)
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
