"""Tables as CSV files with a header: one column for each position and each metric."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import SpaceError, TableError, unknown
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import Position, SearchSpace
from lm_searcher.spaces.tables import Table, numbers_or_text

Columns = Mapping[str, list[str]]


def read_csv(
    path: Path, metric: str, space: SearchSpace | None, positions: Sequence[str] | None
) -> Table:
    """The table of a CSV file, see `load_table`. Raises TableError.

    All columns of numbers that are no positions are metrics; an empty field is NaN.
    """
    columns = _read_columns(path, metric)
    header = list(columns)
    if space is not None:
        positions = [p.name for p in space.positions]
    elif positions is None:
        positions = header[: header.index(metric)]
    for name in positions:
        if name not in columns:
            raise TableError(f"table '{path}': " + unknown("position column", name, header))
    if space is None:
        space = _space(path, {name: columns[name] for name in positions})
    codes = np.stack([_indices(path, p, columns[p.name]) for p in space.positions], axis=1)
    metrics = {}
    for name in header:
        if name not in positions and (numbers := _numbers(columns[name])) is not None:
            metrics[name] = numbers
    if metric not in metrics:
        raise TableError(f"table '{path}': column '{metric}' is not all numbers")
    return Table(space, codes, metrics, {})


def _read_columns(path: Path, metric: str) -> Columns:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header, *lines = [line for line in csv.reader(file) if line]
    except (ValueError, csv.Error):
        raise TableError(f"table '{path}' is empty or no text; wants a header and rows") from None
    if len(set(header)) < len(header):
        repeated = next(name for name in header if header.count(name) > 1)
        raise TableError(f"table '{path}': two columns are named '{repeated}'")
    if metric not in header:
        raise TableError(f"table '{path}': " + unknown("metric", metric, header))
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise TableError(
                f"table '{path}', line {number}: {len(line)} fields, the header has {len(header)}"
            )
    if not lines:
        raise TableError(f"table '{path}' has a header and no rows")
    return {name: [line[i].strip() for line in lines] for i, name in enumerate(header)}


def _space(path: Path, columns: Columns) -> SearchSpace:
    """A space whose options are the values of each column, in ascending order."""
    options = []
    for name, values in columns.items():
        choices = numbers_or_text(sorted(set(values)))
        if not isinstance(choices[0], str):
            choices = tuple(sorted(choices, key=float))
        options.append((name, choices))
    try:
        return SearchSpace(path.stem, tuple(Position(n, c) for n, c in options))
    except SpaceError as error:
        raise TableError(f"table '{path}': {error}") from None


def _indices(path: Path, position: Position, values: list[str]) -> Codes:
    """The option index of each value, shape [rows]."""
    options: dict[str | float, int] = {}
    for index, choice in enumerate(position.choices):
        options[choice if isinstance(choice, str) else float(choice)] = index
        if isinstance(choice, bool):
            options[str(choice)] = options[str(choice).lower()] = index
    indices = np.empty(len(values), np.uint8)
    for row, value in enumerate(values):
        option = options.get(value)
        if option is None:
            try:
                option = options.get(float(value))
            except ValueError:
                option = None
        if option is None:
            raise TableError(
                f"table '{path}', line {row + 2}: '{value}' is no option of '{position.name}' "
                f"(accepted: {', '.join(map(str, position.choices))})"
            )
        indices[row] = option
    return indices


def _numbers(values: list[str]) -> NDArray[np.float64] | None:
    try:
        return np.array([float(v) if v else np.nan for v in values])
    except ValueError:
        return None
