"""Regret with several trials at a time: what it costs a search to know less when it decides.

    python -m lm_searcher.evals.parallel TABLE.npz --metric c10_val [--places 8] [--seeds 20]

Three ways to use the places: `sequential` uses one, `batch` awaits all of them before it picks as
many again, `asynchronous` picks one as soon as one is free. The clock is simulated, with trials of
0.2 to 2 seconds at random. The picks are those of the product's own Selector. Regret is read after
so many trials have ended.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lm_searcher.agent.loop.memory import Findings, remembered
from lm_searcher.agent.loop.requests import Requests
from lm_searcher.agent.loop.selection import Selector
from lm_searcher.agent.problem import Problem as Searched
from lm_searcher.agent.settings.build import settings_of
from lm_searcher.agent.study.storage import MEMORY
from lm_searcher.evals.problems import Problem, table_problem
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import NCode

MODES = ("sequential", "batch", "asynchronous")
SECONDS = (0.2, 2.0)
MARKS = (25, 50, 100)


@dataclass
class SimulatedSearch:
    """A search on a simulated clock; `trials` are all that begin."""

    problem: Problem
    selector: Selector
    findings: Findings
    clock: np.random.Generator
    trials: int
    ncodes: list[NCode] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    """Higher is better; NaN while a trial is pending."""
    order: list[int] = field(default_factory=list)
    """The trials that have ended, in order."""
    now: float = 0.0
    running: list[tuple[float, int]] = field(default_factory=list)
    """(end, number) of each, as a heap."""

    @classmethod
    def of(cls, problem: Problem, ranker: str, seed: int, trials: int) -> SimulatedSearch:
        """A search with the default settings."""
        direction = "max" if problem.sign > 0 else "min"
        keywords = {"ranker": ranker, "trials": trials, "seed": seed, "direction": direction}
        settings = settings_of(keywords | {"store": MEMORY})
        searched = Searched.of(problem.space, problem.evaluator(), settings)
        return cls(
            problem,
            searched.selector(Requests(problem.space)),
            remembered(problem.space, []),
            np.random.default_rng([seed, 0xC10C]),
            trials,
        )

    @property
    def history(self) -> History:
        """The trials as the ranker sees them."""
        scores = np.array(self.values)
        pending = np.isnan(scores)
        codes = self.problem.space.codes(self.ncodes)
        return History(codes, scores, np.zeros(len(scores), bool), pending)

    def begin(self, n: int) -> None:
        """Pick `n` trials and begin them."""
        history = self.history
        findings, _ = self.selector.revise(history, self.findings)
        proposal = self.selector.propose(history, findings)
        self.findings = proposal.findings
        for ncode in self.selector.select(proposal.pool, history, proposal.requested, n).picks:
            end = self.now + float(self.clock.uniform(*SECONDS))
            heapq.heappush(self.running, (end, len(self.ncodes)))
            self.ncodes.append(ncode)
            self.values.append(np.nan)

    def end(self) -> None:
        """The next of the running trials ends."""
        self.now, number = heapq.heappop(self.running)
        self.values[number] = self.problem.sign * self.problem.value(self.ncodes[number])
        self.order.append(number)

    def run(self, mode: str, places: int) -> NDArray[np.float64]:
        """The best value after each ended trial, higher is better, shape [trials]."""
        places = 1 if mode == "sequential" else places
        while len(self.order) < self.trials:
            free = min(places - len(self.running), self.trials - len(self.ncodes))
            if free and (mode == "asynchronous" or not self.running):
                self.begin(free)
            self.end()
        return np.maximum.accumulate(np.array(self.values)[self.order])


def regrets(
    task: tuple[str, int], table: Path, metric: str, ranker: str, places: int, trials: int
) -> list[float]:
    """The normalised regret after each ended trial of one search; a task is mode and seed."""
    mode, seed = task
    problem = table_problem(str(table), metric, None, None, None)
    best = SimulatedSearch.of(problem, ranker, seed, trials).run(mode, places)
    top, middle = problem.sign * problem.best, problem.sign * problem.median
    return [float(value) for value in (top - best) / (top - middle)]


def study(
    table: Path,
    metric: str,
    *,
    modes: Sequence[str] = MODES,
    seeds: int = 20,
    places: int = 8,
    trials: int = 100,
    ranker: str = "local",
    workers: int = 1,
) -> Iterator[dict[str, object]]:
    """Each mode's mean regret at the marks, with its standard error."""
    measure = partial(
        regrets, table=table, metric=metric, ranker=ranker, places=places, trials=trials
    )
    tasks = list(product(modes, range(seeds)))
    with ProcessPoolExecutor(workers) as pool:
        found = np.array(list(pool.map(measure, tasks))).reshape(len(modes), seeds, trials)
    for mode, curves in zip(modes, found, strict=True):
        row: dict[str, object] = {"mode": mode, "metric": metric, "places": places, "seeds": seeds}
        for mark in (m for m in MARKS if m <= trials):
            error = curves[:, mark - 1].std() / np.sqrt(seeds)
            row[str(mark)] = [round(float(curves[:, mark - 1].mean()), 5), round(float(error), 5)]
        yield row


def main() -> None:
    """Measure and print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--metric", required=True)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--places", type=int, default=8)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--ranker", default="local")
    parser.add_argument("--workers", type=int, default=1)
    given = vars(parser.parse_args())
    modes = given.pop("modes").split(",")
    for row in study(given.pop("table"), given.pop("metric"), modes=modes, **given):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
