"""Tabular benchmarks: every architecture's metrics, measured by others, looked up.

Two forms. `NAME.npz` with its card `NAME.json`: `codes` (int8 [rows, positions], the index of
the chosen option) and one float array a metric; the card names positions, options, metrics and
directions. Or a CSV file with a header: one column a position, one a metric.

Tables of the first form come with the package too, as `builtin:NAME`.

A table need not have every architecture of its space: a search over it draws from the rows. So a
table with one row a class of identical architectures is searched class by class.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import SpaceError, TableError, unknown
from lm_searcher.spaces.ncode import Codes, to_ncodes
from lm_searcher.spaces.space import Choice, Position, SearchSpace

BUILTIN = "builtin:"
DATA = Path(__file__).parent / "data"


def table_path(path: str | Path, folder: Path = DATA) -> Path:
    """Where a table lies: `path` itself, or that of `builtin:NAME` in `folder`.

    Raises TableError that lists the built-in tables.
    """
    if not str(path).startswith(BUILTIN):
        return Path(path)
    tables = {file.stem: file for file in folder.glob("*.npz")}
    name = str(path).removeprefix(BUILTIN)
    if name not in tables:
        raise TableError(unknown("built-in table", name, tables))
    return tables[name]


@dataclass(frozen=True)
class Table:
    """A search space with measured metrics."""

    space: SearchSpace
    codes: Codes
    """Shape [rows, positions]; a code may have several rows."""
    metrics: Mapping[str, NDArray[np.float64]]
    """Each of shape [rows]."""
    directions: Mapping[str, str]
    """`max` or `min`, for the metrics whose direction is known."""

    def column(self, metric: str) -> NDArray[np.float64]:
        """One metric, shape [rows]. Raises TableError that lists those there are."""
        if metric not in self.metrics:
            raise TableError(
                f"table '{self.space.name}': " + unknown("metric", metric, self.metrics)
            )
        return self.metrics[metric]

    @cached_property
    def rows(self) -> dict[bytes, list[int]]:
        """Row numbers by code."""
        rows: dict[bytes, list[int]] = {}
        for i, code in enumerate(self.codes):
            rows.setdefault(code.tobytes(), []).append(i)
        return rows

    @property
    def complete(self) -> bool:
        """Whether every architecture of the space has a row."""
        return len(self.rows) == self.space.size

    def digest(self, metric: str) -> str:
        """Tells this table's `metric` from another's."""
        content = self.codes.tobytes() + self.column(metric).tobytes()
        return hashlib.sha256(content).hexdigest()[:16]


def load_table(
    path: str | Path,
    *,
    metric: str | None = None,
    space: SearchSpace | None = None,
    positions: Sequence[str] | None = None,
) -> Table:
    """The table of an .npz file with its card, of a CSV file, or of `builtin:NAME`.

    Raises TableError.

    `space` is what the columns are held against where it is given. `positions` names the
    columns of a CSV that are decisions; without it, and without `space`, they are all columns
    to the left of `metric`, which a CSV wants.
    """
    path = table_path(path)
    if not path.is_file():
        raise TableError(f"table '{path}': no such file")
    if path.suffix == ".npz":
        table = _load_npz(path)
    elif path.suffix == ".csv":
        if metric is None:
            raise TableError(f"table '{path}': a CSV wants the metric to be named")
        table = _load_csv(path, metric, space, positions)
    else:
        raise TableError(f"table '{path}': accepted are .npz (with its .json card) and .csv")
    if metric is not None:
        table.column(metric)
    if space is not None and table.space.fingerprint != space.fingerprint:
        raise TableError(f"table '{path}' is of another space: {_difference(space, table.space)}")
    return table


def joined(table: Table, other: Table) -> Table:
    """`table` with the metrics of `other`, another table of the same architectures.

    A code that has several rows in `other` gets their mean. Raises TableError if the spaces
    differ, if an architecture is missing, or if both have a metric of the same name.
    """
    place = f"table '{other.space.name}'"
    ours, theirs = table.space.cardinalities, other.space.cardinalities
    if len(ours) != len(theirs) or (ours != theirs).any():
        raise TableError(
            f"{place} is of another space: {list(theirs)} options, '{table.space.name}' has "
            f"{list(ours)}"
        )
    twice = sorted(set(table.metrics) & set(other.metrics))
    if twice:
        raise TableError(f"{place}: '{table.space.name}' has a metric '{twice[0]}' too")
    missing = next((c for c in table.codes if c.tobytes() not in other.rows), None)
    if missing is not None:
        raise TableError(f"{place} has no row for '{to_ncodes(missing[None])[0]}'")
    rows = [other.rows[code.tobytes()] for code in table.codes]
    metrics = {
        name: np.array([values[r].mean() if len(r) > 1 else values[r[0]] for r in rows])
        for name, values in other.metrics.items()
    }
    return replace(
        table,
        metrics={**table.metrics, **metrics},
        directions={**table.directions, **other.directions},
    )


def _difference(wanted: SearchSpace, found: SearchSpace) -> str:
    """The first position where two spaces of different fingerprints differ."""
    if len(wanted.positions) != len(found.positions):
        return f"{len(found.positions)} positions, '{wanted.name}' has {len(wanted.positions)}"
    for a, b in zip(wanted.positions, found.positions, strict=True):
        if repr((a.name, a.choices)) != repr((b.name, b.choices)):  # 1 is not 1.0 here
            return f"it has '{b.name}' {list(b.choices)}, not '{a.name}' {list(a.choices)}"
    return "no difference"


def numbers_or_text(options: Sequence[Any]) -> tuple[Choice, ...]:
    """Options as numbers where every one is the text of a finite number, else as they are."""
    if not all(isinstance(o, str) for o in options):
        return tuple(options)
    for kind in (int, float):
        try:
            numbers = tuple(kind(o) for o in options)
        except ValueError:
            continue
        if len(set(numbers)) == len(options) and all(map(math.isfinite, numbers)):
            return numbers
    return tuple(options)


# What numpy and zipfile raise on a file that is none of theirs; TypeError is for a bare .npy.
_DAMAGE = (
    *(OSError, ValueError, TypeError, KeyError, EOFError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
)


def _load_npz(path: Path) -> Table:
    card_path = path.with_suffix(".json")
    try:
        card = json.loads(card_path.read_text())
    except FileNotFoundError:
        raise TableError(f"table '{path}': its card '{card_path.name}' is missing") from None
    except (OSError, ValueError) as error:
        raise TableError(f"table card '{card_path}' is no valid JSON: {error}") from None
    try:
        # numpy closes no file of its own that turns out to be damaged
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except _DAMAGE as error:
        raise TableError(f"table '{path}' is damaged or no .npz file: {error}") from None
    try:
        space = SearchSpace(
            str(card["name"]),
            tuple(
                Position(str(p["name"]), numbers_or_text(p["options"])) for p in card["positions"]
            ),
        )
        described = {str(name): dict(entry) for name, entry in card["metrics"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise TableError(
            f"table card '{card_path}': wants name, positions (name, options) and metrics; "
            f"{type(error).__name__}: {error}"
        ) from None
    except SpaceError as error:
        raise TableError(f"table card '{card_path}': {error}") from None
    codes = _checked_codes(path, card, arrays, space)
    metrics = {}
    for name in described:
        if name not in arrays:
            raise TableError(
                f"table '{path}': the card describes '{name}', the file has no such array"
            )
        if arrays[name].shape != (len(codes),) or arrays[name].dtype.kind not in "iuf":
            raise TableError(
                f"table '{path}': '{name}' has shape {arrays[name].shape} and type "
                f"{arrays[name].dtype}, wants numbers of shape ({len(codes)},)"
            )
        metrics[name] = arrays[name].astype(np.float64)
    directions = {n: e["direction"] for n, e in described.items() if e.get("direction")}
    for name, direction in directions.items():
        if direction not in ("max", "min"):
            raise TableError(
                f"table card '{card_path}': '{name}' has direction {direction!r}; "
                "accepted: max, min"
            )
    return Table(space, codes, metrics, directions)


def _checked_codes(
    path: Path, card: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], space: SearchSpace
) -> Codes:
    codes = arrays.get("codes")
    wanted = len(space.positions)
    if codes is None or codes.ndim != 2 or codes.shape[1] != wanted or codes.dtype.kind not in "iu":
        shape = "is missing" if codes is None else f"has shape {codes.shape}, type {codes.dtype}"
        raise TableError(
            f"table '{path}': 'codes' {shape}; the card has {wanted} positions, "
            f"so it wants integers of shape [rows, {wanted}]"
        )
    if "rows" in card and card["rows"] != len(codes):
        raise TableError(f"table '{path}': {len(codes)} rows, its card says {card['rows']}")
    outside = (codes < 0) | (codes >= space.cardinalities)
    if outside.any():
        row, place = np.argwhere(outside)[0]
        position = space.positions[place]
        raise TableError(
            f"table '{path}': row {row} has option {codes[row, place]} at '{position.name}', "
            f"its card lists {len(position.choices)} options"
        )
    if not len(codes):
        raise TableError(f"table '{path}' has no rows")
    checked: Codes = codes.astype(np.uint8)
    return checked


def _load_csv(
    path: Path, metric: str, space: SearchSpace | None, positions: Sequence[str] | None
) -> Table:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header, *lines = [line for line in csv.reader(file) if line]
    except (ValueError, csv.Error):
        raise TableError(f"table '{path}' is empty or no text; wants a header and rows") from None
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise TableError(f"table '{path}': two columns are named '{twice}'")
    if metric not in header:
        raise TableError(f"table '{path}': " + unknown("metric", metric, header))
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise TableError(
                f"table '{path}', line {number}: {len(line)} fields, the header has {len(header)}"
            )
    if not lines:
        raise TableError(f"table '{path}' has a header and no rows")
    columns = {name: [line[i].strip() for line in lines] for i, name in enumerate(header)}
    if space is not None:
        positions = [p.name for p in space.positions]
    elif positions is None:
        positions = header[: header.index(metric)]
    for name in positions:
        if name not in columns:
            raise TableError(f"table '{path}': " + unknown("position column", name, header))
    if space is None:
        space = _space_of_columns(path, {name: columns[name] for name in positions})
    codes = np.stack([_option_indices(path, p, columns[p.name]) for p in space.positions], axis=1)
    metrics = {}
    for name in header:
        if name not in positions and (numbers := _numbers(columns[name])) is not None:
            metrics[name] = numbers
    if metric not in metrics:
        raise TableError(f"table '{path}': column '{metric}' is not all numbers")
    return Table(space, codes, metrics, {})


def _space_of_columns(path: Path, columns: Mapping[str, list[str]]) -> SearchSpace:
    found = []
    for name, values in columns.items():
        choices = numbers_or_text(sorted(set(values)))
        if not isinstance(choices[0], str):
            choices = tuple(sorted(choices, key=float))
        found.append((name, choices))
    try:
        return SearchSpace(path.stem, tuple(Position(n, c) for n, c in found))
    except SpaceError as error:
        raise TableError(f"table '{path}': {error}") from None


def _option_indices(path: Path, position: Position, values: list[str]) -> Codes:
    options: dict[str | float, int] = {}
    for index, choice in enumerate(position.choices):
        options[choice if isinstance(choice, str) else float(choice)] = index
        if isinstance(choice, bool):
            options[str(choice)] = options[str(choice).lower()] = index
    indices = np.empty(len(values), np.uint8)
    for row, value in enumerate(values):
        found = options.get(value)
        if found is None:
            try:
                found = options.get(float(value))
            except ValueError:
                found = None
        if found is None:
            raise TableError(
                f"table '{path}', line {row + 2}: '{value}' is no option of '{position.name}' "
                f"(accepted: {', '.join(map(str, position.choices))})"
            )
        indices[row] = found
    return indices


def _numbers(values: list[str]) -> NDArray[np.float64] | None:
    try:
        return np.array([float(v) if v else np.nan for v in values])
    except ValueError:
        return None
