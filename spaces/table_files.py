"""Files of tabular benchmarks.

Two forms: `NAME.npz` with its card `NAME.json` (see spaces/table_npz.py), and CSV (see
spaces/table_csv.py). Tables of the first form come with the package, as `builtin:NAME`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lm_searcher.spaces.errors import TableError, unknown
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.table_csv import read_csv
from lm_searcher.spaces.table_npz import read_npz
from lm_searcher.spaces.tables import Table

BUILTIN = "builtin:"
DATA = Path(__file__).parent / "data"


def table_path(path: str | Path, folder: Path = DATA) -> Path:
    """`path` itself, or for `builtin:NAME` that table's path in `folder`.

    Raises TableError that lists the built-in tables.
    """
    if not str(path).startswith(BUILTIN):
        return Path(path)
    tables = {file.stem: file for file in folder.glob("*.npz")}
    name = str(path).removeprefix(BUILTIN)
    if name not in tables:
        raise TableError(unknown("built-in table", name, tables))
    return tables[name]


def load_table(
    path: str | Path,
    *,
    metric: str | None = None,
    space: SearchSpace | None = None,
    positions: Sequence[str] | None = None,
) -> Table:
    """The table of an .npz file with its card, of a CSV file, or of `builtin:NAME`.

    `metric` must be in the table; a CSV file requires it. If `space` is given, the table must be
    of it. `positions` names the columns of a CSV file that are decisions; by default those of
    `space`, or all columns to the left of `metric`. Raises TableError.
    """
    path = table_path(path)
    if not path.is_file():
        raise TableError(f"table '{path}': no such file")
    if path.suffix == ".npz":
        table = read_npz(path)
    elif path.suffix == ".csv":
        if metric is None:
            raise TableError(f"table '{path}': a CSV wants the metric to be named")
        table = read_csv(path, metric, space, positions)
    else:
        raise TableError(f"table '{path}': accepted are .npz (with its .json card) and .csv")
    if metric is not None:
        table.column(metric)
    if space is not None and table.space.fingerprint != space.fingerprint:
        raise TableError(f"table '{path}' is of another space: {_difference(space, table.space)}")
    return table


def _difference(expected: SearchSpace, actual: SearchSpace) -> str:
    """The first position where two spaces of different fingerprints differ."""
    if len(expected.positions) != len(actual.positions):
        count = len(expected.positions)
        return f"{len(actual.positions)} positions, '{expected.name}' has {count}"
    for a, b in zip(expected.positions, actual.positions, strict=True):
        if repr((a.name, a.choices)) != repr((b.name, b.choices)):  # 1 is not 1.0 here
            return f"it has '{b.name}' {list(b.choices)}, not '{a.name}' {list(a.choices)}"
    return "no difference"
