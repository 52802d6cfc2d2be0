"""Runs of a study: all its searches, in parallel and resumable, and their summary."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lm_searcher.evals.fronts import FrontProblem
from lm_searcher.evals.problems import Problem
from lm_searcher.evals.study import Found, Study, search


def run_study(
    study: Study,
    methods: Sequence[str],
    workers: int = 1,
    keep: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """The study's result as plain data.

    Finished searches are appended to the file `keep`, from which a killed study resumes.
    `progress` is called with the numbers of finished and of all searches.
    """
    pairs = [(method, seed) for method in methods for seed in range(study.seeds)]
    found = {(f.method, f.seed): f for f in _kept(study, keep)} if keep else {}
    remaining = [pair for pair in pairs if pair not in found]
    for result in _searches(study, remaining, workers):
        found[result.method, result.seed] = result
        if keep is not None:
            with open(
                keep, "a"
            ) as file:  # the newline ends a line that a killed process left incomplete
                file.write("\n" + json.dumps(asdict(study) | asdict(result)))
        progress(len(pairs) - len(remaining) + sum(p in found for p in remaining), len(pairs))
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
    """The searches that an earlier process finished; incomplete lines are ignored."""
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
    """One method's results over all seeds, at the marks."""
    values = np.array([f.values for f in found])
    regrets = (
        problem.sign * (problem.best - values) / (problem.sign * (problem.best - problem.median))
    )
    columns = np.array(study.marks) - 1

    def by_mark(numbers: Any) -> dict[str, float]:
        return {str(m): round(float(v), 6) for m, v in zip(study.marks, numbers, strict=True)}

    error = (
        regrets[:, columns].std(axis=0, ddof=1) / np.sqrt(len(found))
        if len(found) > 1
        else 0 * columns
    )
    result = {
        "regret": by_mark(regrets[:, columns].mean(axis=0)),
        "standard_error": by_mark(error),
        "found": by_mark((regrets[:, columns] <= 1e-9).mean(axis=0)),
        "value": by_mark(values[:, columns].mean(axis=0)),
        "test": None,
        "seconds_per_decision": round(float(np.mean([f.seconds for f in found])), 5),
        "curves": values.tolist(),
    }
    if found[0].tests[0] is not None:
        result["test"] = by_mark(np.array([f.tests for f in found], float)[:, columns].mean(axis=0))
    return result
