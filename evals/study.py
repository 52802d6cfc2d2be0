"""A study: methods x seeds on one problem, through the product's own Search.

Every method gets the same first random trials for a seed, the same pools and the same memory.
Finished searches are kept in a file beside the result, so a study that is killed goes on.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lm_searcher.agent.results.result import Result
from lm_searcher.agent.search import Search
from lm_searcher.agent.study.storage import MEMORY
from lm_searcher.evals.fronts import FrontProblem, front_problem
from lm_searcher.evals.problems import Problem, chain_problem, table_problem
from lm_searcher.spaces.ncode import NCode


@dataclass(frozen=True)
class Study:
    """What is compared. `table` is a file, `builtin:NAME`, or `chain:POSITIONSxOPTIONS:NUMBER`."""

    table: str
    metric: str = "value"
    test_metric: str | None = None
    direction: str | None = None
    evaluations: int = 100
    seeds: int = 20
    marks: tuple[int, ...] = (25, 50, 100)
    seed_metric: str | None = None
    """Searches see this metric's single seeds and confirm; evaluations spent there count."""
    memory: bool = True
    confirm: tuple[int, int] = (3, 2)
    """With `seed_metric`: finalists, and fresh seeds of each."""
    objectives: tuple[tuple[str, str | None], ...] = ()
    """Several (metric, direction) in place of `metric`; a direction of None is the card's."""
    join: tuple[str, ...] = ()
    """Tables of the same architectures that have the other objectives."""

    @property
    def title(self) -> str:
        """The metric, or all of them."""
        return " / ".join(metric for metric, _ in self.objectives) or self.metric

    def problem(self) -> Problem | FrontProblem:
        """The problem. Raises UserError."""
        if self.objectives:
            return front_problem(self.table, self.join, self.objectives)
        if self.table.startswith("chain:"):
            return chain_problem(self.table)
        return table_problem(
            self.table, self.metric, self.test_metric, self.direction, self.seed_metric
        )


@dataclass(frozen=True)
class Found:
    """One search: what it had found after each evaluation."""

    method: str
    seed: int
    values: list[float]
    """The true value of the architecture that the search would name, after each evaluation."""
    tests: list[float | None]
    """Its test metric."""
    seconds: float
    """A decision: all of a search's time but the look-ups, by the number of trials."""


_problems: dict[Study, Problem | FrontProblem] = {}


def search(study: Study, method: str, seed: int) -> Found:
    """Run one search of a study, or with single-seed noise one for every mark."""
    problem = _problems.get(study) or _problems.setdefault(study, study.problem())
    if isinstance(problem, FrontProblem):
        result, seconds = _result(study, problem, method, seed, study.evaluations)
        shares = problem.shares([trial.ncode for trial in result.trials])
        shares += shares[-1:] * (study.evaluations - len(shares))
        return Found(method, seed, shares, [None] * len(shares), seconds)
    if study.seed_metric is None:
        named, seconds = _named(study, problem, method, seed, study.evaluations, (0, 1))
    else:
        named, seconds = [], 0.0
        for mark in sorted({*study.marks, study.evaluations}):
            top, repeats = study.confirm
            found, seconds = _named(
                study, problem, method, seed, mark - top * repeats, study.confirm
            )
            named += [found[-1]] * (mark - len(named))
    values = {ncode: problem.value(ncode) for ncode in set(named)}
    tests = {ncode: problem.test(ncode) for ncode in values}
    return Found(method, seed, [values[n] for n in named], [tests[n] for n in named], seconds)


def _named(
    study: Study,
    problem: Problem,
    method: str,
    seed: int,
    trials: int,
    confirm: tuple[int, int],
) -> tuple[list[NCode], float]:
    """The architecture that the search would name after each trial, and seconds a decision."""
    result, seconds = _result(study, problem, method, seed, trials, confirm)
    named: list[NCode] = []
    best = -np.inf
    for trial in result.trials:
        score = -np.inf if trial.value is None else problem.sign * trial.value
        named.append(trial.ncode if score > best or not named else named[-1])
        best = max(best, score)
    if confirm[0] and result.incumbent is not None:
        named[-1] = result.incumbent.ncode
    named += [named[-1]] * (trials - len(named))  # an exhausted space has nothing more to find
    return named, seconds


def _result(
    study: Study,
    problem: Problem | FrontProblem,
    method: str,
    seed: int,
    trials: int,
    confirm: tuple[int, int] = (0, 1),
) -> tuple[Result, float]:
    """A search's result, and its seconds a decision."""
    objectives: dict[str, Any] = {"direction": "max" if problem.sign > 0 else "min"}
    if isinstance(problem, FrontProblem):
        objectives = {"objectives": [asdict(goal) for goal in problem.goals]}
    began = time.perf_counter()
    result = Search(
        problem.space,
        problem.evaluator(),
        ranker=method,
        trials=trials,
        seed=seed,
        store=MEMORY,
        memory={"enabled": study.memory},
        confirm={"top": confirm[0], "seeds": confirm[1]},
        **objectives,
    ).run()
    return result, (time.perf_counter() - began) / max(1, len(result.trials))


def run_study(
    study: Study,
    methods: Sequence[str],
    workers: int = 1,
    keep: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """The study's result as plain data; `keep` is where finished searches are kept meanwhile."""
    wanted = [(method, seed) for method in methods for seed in range(study.seeds)]
    found = {(f.method, f.seed): f for f in _kept(study, keep)} if keep else {}
    left = [pair for pair in wanted if pair not in found]
    for one in _searches(study, left, workers):
        found[one.method, one.seed] = one
        if keep is not None:
            with open(keep, "a") as file:  # the newline ends what a kill cut short
                file.write("\n" + json.dumps(asdict(study) | asdict(one)))
        progress(len(wanted) - len(left) + sum(p in found for p in left), len(wanted))
    problem = study.problem()
    return {
        "table": study.table,
        "metric": study.title,
        "objectives": [list(goal) for goal in study.objectives],
        "direction": "max" if problem.sign > 0 else "min",
        "evaluations": study.evaluations,
        "seeds": study.seeds,
        "protocol": "mean" if study.seed_metric is None else "seed",
        "memory": study.memory,
        "best": problem.best,
        "median": problem.median,
        "methods": {
            method: summary(study, problem, [found[method, s] for s in range(study.seeds)])
            for method in methods
        },
    }


def _searches(study: Study, pairs: list[tuple[str, int]], workers: int) -> Iterator[Found]:
    if workers == 1:
        yield from (search(study, method, seed) for method, seed in pairs)
        return
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    os.environ.setdefault("OMP_NUM_THREADS", threads)  # read when a worker loads its libraries
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(search, study, method, seed) for method, seed in pairs]
        yield from (future.result() for future in as_completed(futures))


def _kept(study: Study, path: Path) -> Iterator[Found]:
    """The searches that an earlier process finished; a line cut short is passed over."""
    same = json.loads(json.dumps(asdict(study)))
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if {k: row.pop(k) for k in same} == same | {"seeds": study.seeds}:
            yield Found(**row)


def summary(
    study: Study, problem: Problem | FrontProblem, found: Sequence[Found]
) -> dict[str, Any]:
    """One method over all seeds, at the marks."""
    values = np.array([f.values for f in found])
    regrets = (
        problem.sign * (problem.best - values) / (problem.sign * (problem.best - problem.median))
    )
    at = np.array(study.marks) - 1

    def by_mark(numbers: Any) -> dict[str, float]:
        return {str(m): round(float(v), 6) for m, v in zip(study.marks, numbers, strict=True)}

    error = regrets[:, at].std(axis=0, ddof=1) / np.sqrt(len(found)) if len(found) > 1 else 0 * at
    result = {
        "regret": by_mark(regrets[:, at].mean(axis=0)),
        "standard_error": by_mark(error),
        "found": by_mark((regrets[:, at] <= 1e-9).mean(axis=0)),
        "value": by_mark(values[:, at].mean(axis=0)),
        "test": None,
        "seconds_per_decision": round(float(np.mean([f.seconds for f in found])), 5),
        "curves": values.tolist(),
    }
    if found[0].tests[0] is not None:
        result["test"] = by_mark(np.array([f.tests for f in found], float)[:, at].mean(axis=0))
    return result
