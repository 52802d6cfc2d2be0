"""Synthetic tasks compared with real tables: do the pre-training tasks resemble real searches?

    python -m lm_searcher.evals.landscapes [--tables FILE:METRIC ...] [--tasks 300] [--json OUT]

Prints the 10 %, 50 % and 90 % quantiles of each statistic over the tasks of
spaces/landscapes/tasks.py, and a row for each table: the statistic, and in brackets the percentage
of the tasks with a smaller one. As in real tables, the tasks' spaces have 5 to 12 positions of up
to 10 options, and at least 1,000 designs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table as Shown

from lm_searcher.evals.landscape_statistics import Statistics, Values, statistics
from lm_searcher.evals.problems import TableProblem, table_problem
from lm_searcher.spaces.errors import UserError
from lm_searcher.spaces.landscapes.space_shape import SpaceShape, random_shape
from lm_searcher.spaces.landscapes.tasks import random_task
from lm_searcher.spaces.ncode import Codes

SIZES = {"min_positions": 5, "max_positions": 12, "max_options": 10}
LEAST_DESIGNS = 1000
NAMES = [field.name for field in dataclasses.fields(Statistics)]
QUANTILES = (0.1, 0.5, 0.9)


def task_statistics(seed: int, rows: int) -> Statistics | None:
    """The statistics of the noise-free task of a seed; None if it is constant."""
    rng = np.random.default_rng([seed, 0x1A7D])
    shape = random_shape(rng, **SIZES)
    while np.prod(shape.cardinalities.astype(float)) < LEAST_DESIGNS:
        shape = random_shape(rng, **SIZES)
    task = random_task(rng, shape)
    codes = np.unique(shape.sample(rows, rng), axis=0)
    values = task.landscape(codes)
    if np.ptp(values) < 1e-9:
        return None
    return statistics(shape, codes, values, task.landscape, rng)


def table_statistics(problem: TableProblem, rows: int) -> Statistics:
    """The statistics of up to `rows` designs of a table."""
    rng = np.random.default_rng(0)
    table = problem.table
    column = problem.sign * table.column(problem.metric)
    value = {key: float(np.mean(column[found])) for key, found in table.rows.items()}

    def look_up(codes: Codes) -> Values:
        return np.array([value.get(code.tobytes(), np.nan) for code in codes])

    codes = np.unique(table.codes, axis=0)
    codes = codes[rng.permutation(len(codes))[:rows]]
    return statistics(SpaceShape.of(table.space), codes, look_up(codes), look_up, rng)


def as_array(found: Sequence[Statistics]) -> NDArray[np.float64]:
    """Shape [landscapes, statistics], in the order of NAMES."""
    return np.array([dataclasses.astuple(one) for one in found])


def place(values: NDArray[np.float64], prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the tasks (rows of `prior`) below each statistic; NaN stays NaN."""
    known = ~np.isnan(prior)
    below = ((prior < values) & known).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(np.isnan(values), np.nan, below)


def study(names: Sequence[str], tasks: int, rows: int, seed: int) -> dict[str, Any]:
    """The result as plain data: quantiles of the tasks, and each table's statistics and places.

    Raises TableError.
    """
    problems = {name: _problem(name) for name in names}  # raises before the long computation
    found = [task_statistics(seed + i, rows) for i in _with_progress(tasks)]
    kept = [one for one in found if one is not None]
    prior = as_array(kept)
    quantiles = np.nanquantile(prior, QUANTILES, axis=0)
    result: dict[str, Any] = {
        "tasks": len(kept),
        "constant": tasks - len(kept),
        "rows": rows,
        "seed": seed,
        "prior": {
            f"{share:g}": _named(row) for share, row in zip(QUANTILES, quantiles, strict=True)
        },
        "tables": {},
    }
    for name, problem in problems.items():
        (row,) = as_array([table_statistics(problem, rows)])
        result["tables"][name] = {"value": _named(row), "place": _named(place(row, prior))}
    return result


def _with_progress(tasks: int) -> Iterator[int]:
    console = Console(stderr=True)
    yield from track(range(tasks), "tasks", console=console, disable=not console.is_terminal)


def _problem(name: str) -> TableProblem:
    path, _, metric = name.rpartition(":")
    return table_problem(path, metric)


def _named(row: NDArray[np.float64]) -> dict[str, float | None]:
    return {n: None if np.isnan(x) else round(float(x), 4) for n, x in zip(NAMES, row, strict=True)}


def show(result: dict[str, Any], console: Console) -> None:
    """Print the result as a table."""
    title = f"{result['tasks']} synthetic tasks and {len(result['tables'])} tables"
    shown = Shown("", title=title)
    for name in NAMES:
        shown.add_column(name.replace("_", " "), justify="right")
    for share, row in result["prior"].items():
        shown.add_row(f"tasks, {100 * float(share):g} %", *(_number(row[n]) for n in NAMES))
    shown.add_section()
    for name, entry in result["tables"].items():
        path, _, metric = name.rpartition(":")
        cells = [
            _number(entry["value"][n])
            + ("" if entry["place"][n] is None else f" ({100 * entry['place'][n]:.0f})")
            for n in NAMES
        ]
        shown.add_row(f"{Path(path).stem} {metric}", *cells)
    console.print(shown)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--tables", nargs="*", default=[], metavar="FILE:METRIC")
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--rows", type=int, default=4000, help="designs of each landscape")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.tasks < 1 or given.rows < 200 or given.seed < 0:
        parser.error("accepted: --tasks from 1, --rows from 200, --seed from 0")
    try:
        result = study(given.tables, given.tasks, given.rows, given.seed)
    except UserError as error:
        print(f"landscapes: {error}", file=sys.stderr)
        sys.exit(2)
    # Wide enough for all columns if the output is a file.
    width = None if sys.stdout.isatty() else 170
    show(result, Console(markup=False, emoji=False, width=width))
    if given.json is not None:
        given.json.write_text(json.dumps(result, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
