"""A study compares methods on one problem, over several seeds, with the product's own Search.

For a seed, all methods have the same random trials, the same pools and the same memory.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lm_searcher.agent.results.result import Result
from lm_searcher.agent.search import Search
from lm_searcher.agent.study.storage import MEMORY
from lm_searcher.evals.chain import chain_problem
from lm_searcher.evals.fronts import FrontProblem, front_problem
from lm_searcher.evals.problems import Problem, table_problem
from lm_searcher.spaces.ncode import NCode


@dataclass(frozen=True)
class Study:
    """The settings of a study.

    `table` is a file, `builtin:NAME`, or `chain:POSITIONSxOPTIONS:NUMBER`.
    """

    table: str
    metric: str = "value"
    test_metric: str | None = None
    direction: str | None = None
    evaluations: int = 100
    seeds: int = 20
    marks: tuple[int, ...] = (25, 50, 100)
    seed_metric: str | None = None
    """Searches see single seeds of this metric and confirm; confirmations count as evaluations."""
    memory: bool = True
    confirm: tuple[int, int] = (3, 2)
    """With `seed_metric`: the number of finalists, and of fresh seeds for each."""
    objectives: tuple[tuple[str, str | None], ...] = ()
    """Several (metric, direction) instead of `metric`; direction None: that of the card."""
    join: tuple[str, ...] = ()
    """Tables of the same architectures with further metrics."""

    @property
    def title(self) -> str:
        """The metric or metrics."""
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
    """The result of one search."""

    method: str
    seed: int
    values: list[float]
    """The true value of the incumbent after each evaluation."""
    tests: list[float | None]
    """The test metric of the incumbent after each evaluation."""
    seconds: float
    """Seconds for each decision: the search's time divided by the number of trials."""


_problems: dict[Study, Problem | FrontProblem] = {}


def search(study: Study, method: str, seed: int) -> Found:
    """Run one search of a study; with single-seed noise, one search for each mark."""
    problem = _problems.get(study) or _problems.setdefault(study, study.problem())
    if isinstance(problem, FrontProblem):
        result, seconds = _result(study, problem, method, seed, study.evaluations)
        shares = problem.shares([trial.ncode for trial in result.trials])
        shares += shares[-1:] * (study.evaluations - len(shares))
        return Found(method, seed, shares, [None] * len(shares), seconds)
    if study.seed_metric is None:
        incumbents, seconds = _incumbents(study, problem, method, seed, study.evaluations, (0, 1))
    else:
        incumbents, seconds = [], 0.0
        for mark in sorted({*study.marks, study.evaluations}):
            top, repeats = study.confirm
            found, seconds = _incumbents(
                study, problem, method, seed, mark - top * repeats, study.confirm
            )
            incumbents += [found[-1]] * (mark - len(incumbents))
    values = {ncode: problem.value(ncode) for ncode in set(incumbents)}
    tests = {ncode: problem.test(ncode) for ncode in values}
    return Found(
        method, seed, [values[n] for n in incumbents], [tests[n] for n in incumbents], seconds
    )


def _incumbents(
    study: Study,
    problem: Problem,
    method: str,
    seed: int,
    trials: int,
    confirm: tuple[int, int],
) -> tuple[list[NCode], float]:
    """The incumbent after each trial, and the seconds for each decision."""
    result, seconds = _result(study, problem, method, seed, trials, confirm)
    incumbents: list[NCode] = []
    best = -np.inf
    for trial in result.trials:
        score = -np.inf if trial.value is None else problem.sign * trial.value
        incumbents.append(trial.ncode if score > best or not incumbents else incumbents[-1])
        best = max(best, score)
    if confirm[0] and result.incumbent is not None:
        incumbents[-1] = result.incumbent.ncode
    incumbents += [incumbents[-1]] * (trials - len(incumbents))  # the space was exhausted before
    return incumbents, seconds


def _result(
    study: Study,
    problem: Problem | FrontProblem,
    method: str,
    seed: int,
    trials: int,
    confirm: tuple[int, int] = (0, 1),
) -> tuple[Result, float]:
    """A search's result, and the seconds for each decision."""
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
