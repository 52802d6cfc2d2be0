"""What rankers are compared on: objectives whose best value is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import ConfigError, TableError
from lm_searcher.spaces.ncode import Codes, NCode
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.table_files import load_table, table_path
from lm_searcher.spaces.tables import Table
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.evaluators.table import TableEvaluator
from lm_searcher.tools.protocols import Evaluation, Evaluator, Metrics, Report


class Problem(Protocol):
    """An objective with a known best. Values are in its own sign."""

    @property
    def space(self) -> SearchSpace:
        """What is searched."""
        ...

    @property
    def sign(self) -> float:
        """1 where more is better, -1 where less is."""
        ...

    @property
    def best(self) -> float:
        """The best value there is."""
        ...

    @property
    def median(self) -> float:
        """The value that half of the architectures reach."""
        ...

    def evaluator(self) -> Evaluator:
        """What a search measures with."""
        ...

    def value(self, ncode: NCode) -> float:
        """The true value of an architecture, without the noise of a search's measurement."""
        ...

    def test(self, ncode: NCode) -> float | None:
        """Its test metric, where there is one."""
        ...


@dataclass(frozen=True)
class TableProblem:
    """A metric of a tabular benchmark.

    With `seeds` (shape [rows, seeds], NaN where a seed is missing) an evaluation gives one of the
    single-seed results, drawn by its seed; the true value stays the metric's.
    """

    table: Table
    metric: str
    direction: str
    test_metric: str | None = None
    seeds: NDArray[np.float64] | None = None

    @property
    def space(self) -> SearchSpace:
        """See Problem."""
        return self.table.space

    @property
    def sign(self) -> float:
        """See Problem."""
        return 1.0 if self.direction == "max" else -1.0

    @cached_property
    def best(self) -> float:
        """See Problem."""
        return self.sign * float((self.sign * self.table.column(self.metric)).max())

    @cached_property
    def median(self) -> float:
        """See Problem."""
        return float(np.median(self.table.column(self.metric)))

    def evaluator(self) -> Evaluator:
        """See Problem."""
        if self.seeds is None:
            return TableEvaluator(self.table, self.metric)
        return SeedEvaluator(self.table, self.metric, deterministic=False, seeds=self.seeds)

    def value(self, ncode: NCode) -> float:
        """See Problem."""
        return self._look_up(self.metric, ncode)

    def test(self, ncode: NCode) -> float | None:
        """See Problem."""
        return self._look_up(self.test_metric, ncode) if self.test_metric else None

    def _look_up(self, metric: str, ncode: NCode) -> float:
        rows = self.table.rows[self.table.space.codes([ncode])[0].tobytes()]
        return float(np.mean(self.table.column(metric)[rows]))


@dataclass
class SeedEvaluator(TableEvaluator):
    """A table look-up with the noise of single trainings."""

    seeds: NDArray[np.float64] | None = None

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        """The result of one of the architecture's seeds."""
        assert self.seeds is not None
        row = self.table.rows[self.table.space.codes([evaluation.ncode])[0].tobytes()][0]
        known = self.seeds[row][~np.isnan(self.seeds[row])]
        return {self.metric: float(known[evaluation.seed % len(known)])}


def table_problem(
    path: str,
    metric: str,
    test_metric: str | None = None,
    direction: str | None = None,
    seed_metric: str | None = None,
) -> TableProblem:
    """The problem of a table's metric. Raises TableError for one that nobody can search.

    `seed_metric` names an array of the table, or of the file beside it that ends in `_seeds.npz`.
    """
    table = load_table(path, metric=metric)
    for name in filter(None, (metric, test_metric)):
        check_values(path, name, table.column(name))
    problem = TableProblem(
        table, metric, direction or table.directions.get(metric, "max"), test_metric
    )
    if seed_metric is None:
        return problem
    return replace(problem, seeds=_single_seeds(table_path(path), table, seed_metric))


def check_values(path: str, name: str, values: NDArray[np.float64]) -> None:
    """Raises TableError for a metric that cannot be searched for."""
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise TableError(
            f"table '{path}': '{name}' is {values[bad[0]]} in row {bad[0]} and in {len(bad) - 1} "
            "others; every row wants a finite number"
        )
    if np.ptp(values) == 0:
        raise TableError(f"table '{path}': '{name}' is {values[0]} in every row: nothing to find")


def _single_seeds(path: Path, table: Table, name: str) -> NDArray[np.float64]:
    if name in table.metrics:
        return table.metrics[name][:, None]
    beside = path.with_name(f"{path.stem}_seeds.npz")
    if not beside.is_file():
        raise TableError(f"table '{path}' has no '{name}', and there is no '{beside.name}'")
    with np.load(beside, allow_pickle=False) as file:
        names: Sequence[str] = file.files
        if name not in names:
            raise TableError(f"table '{beside}' has no '{name}' (it has: {', '.join(names)})")
        seeds = np.asarray(file[name], dtype=np.float64)
        same = "codes" in names and np.array_equal(file["codes"], table.codes)
    if not same or seeds.ndim != 2:
        raise TableError(
            f"table '{beside}': '{name}' is not one row of seeds for each of the table"
        )
    return seeds


class Chain:
    """A large made-up space whose best is known exactly.

    Every other position is ordered, its options' effects a random walk; those of the rest are
    independent. Some positions matter far more than others, and neighbouring positions interact:
    the best of all designs is found by dynamic programming along the chain.
    """

    sign = 1.0

    def __init__(self, positions: int, options: int, number: int) -> None:
        rng = np.random.default_rng([positions, options, number])
        names, sizes = [f"option {k}" for k in range(options)], list(range(options))
        self.space = SearchSpace.of(
            "chain", {f"p{i}": sizes if i % 2 else names for i in range(positions)}
        )
        weight = rng.gamma(0.5, size=positions)[:, None]
        effects = rng.normal(size=(positions, options))
        effects[1::2] = np.cumsum(effects[1::2], axis=1) / np.sqrt(options / 2)
        self.single = weight * effects
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
        """See Problem."""
        return FunctionEvaluator(lambda config, ncode: self.value(ncode), inline=True)

    def value(self, ncode: NCode) -> float:
        """See Problem."""
        return float(self(self.space.codes([ncode]))[0])

    def test(self, ncode: NCode) -> float | None:
        """See Problem."""
        return None


def chain_problem(name: str) -> Chain:
    """`chain:POSITIONSxOPTIONS` or `chain:POSITIONSxOPTIONS:NUMBER`. Raises ConfigError."""
    size, _, number = name.removeprefix("chain:").partition(":")
    try:
        positions, options = map(int, size.split("x"))
        return Chain(positions, options, int(number or 0))
    except ValueError:
        raise ConfigError(f"'{name}'; accepted: chain:POSITIONSxOPTIONS:NUMBER") from None
