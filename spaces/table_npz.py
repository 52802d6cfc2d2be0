"""Tables as `NAME.npz` with a card `NAME.json`.

The arrays: `codes` (integers [rows, positions], the index of the chosen option) and one array of
numbers [rows] for each metric. The card describes positions, options, metrics and directions.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from lm_searcher.spaces.errors import SpaceError, TableError
from lm_searcher.spaces.model import Accepted, FrozenModel, check
from lm_searcher.spaces.ncode import Codes
from lm_searcher.spaces.space import Position, SearchSpace
from lm_searcher.spaces.tables import Table, numbers_or_text

Arrays = Mapping[str, NDArray[Any]]

# What numpy and zipfile raise on a damaged or foreign file; TypeError is for a bare .npy.
_DAMAGE = (
    *(OSError, ValueError, TypeError, KeyError, EOFError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
)


class CardPosition(FrozenModel):
    """A position of the table's space; its options are checked by `Position`."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, Accepted("text")]
    options: Annotated[list[Any], Accepted("a list of options")]


class CardMetric(FrozenModel):
    """A metric; units and statistics in the card are not read."""

    model_config = ConfigDict(extra="ignore")

    direction: Annotated[Literal["max", "min"] | None, Accepted("max, min")] = None


class Card(FrozenModel):
    """What the card must describe; other keys are not read."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, Accepted("text")]
    positions: Annotated[list[CardPosition], Accepted("a list of tables with name and options")]
    metrics: Annotated[dict[str, CardMetric], Accepted("a table for each metric")]
    rows: Annotated[int | None, Accepted("the number of rows")] = None


def read_npz(path: Path) -> Table:
    """The table of an .npz file and its card. Raises TableError."""
    card_path = path.with_suffix(".json")
    try:
        card = check(Card, _read_json(path, card_path))
        positions = (Position(p.name, numbers_or_text(p.options)) for p in card.positions)
        space = SearchSpace(card.name, tuple(positions))
    except SpaceError as error:
        raise TableError(f"table card '{card_path}': {error}") from None
    arrays = _read_arrays(path)
    codes = _codes(path, card, arrays, space)
    metrics = {name: _metric(path, name, arrays, len(codes)) for name in card.metrics}
    directions = {name: m.direction for name, m in card.metrics.items() if m.direction}
    return Table(space, codes, metrics, directions)


def _read_json(path: Path, card_path: Path) -> Any:
    try:
        return json.loads(card_path.read_text())
    except FileNotFoundError:
        raise TableError(f"table '{path}': its card '{card_path.name}' is missing") from None
    except (OSError, ValueError) as error:
        raise TableError(f"table card '{card_path}' is no valid JSON: {error}") from None


def _read_arrays(path: Path) -> Arrays:
    try:
        # numpy does not close a damaged file that it has opened itself
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except _DAMAGE as error:
        raise TableError(f"table '{path}' is damaged or no .npz file: {error}") from None


def _metric(path: Path, name: str, arrays: Arrays, rows: int) -> NDArray[np.float64]:
    if name not in arrays:
        raise TableError(f"table '{path}': the card describes '{name}', the file has no such array")
    array = arrays[name]
    if array.shape != (rows,) or array.dtype.kind not in "iuf":
        raise TableError(
            f"table '{path}': '{name}' has shape {array.shape} and type {array.dtype}, "
            f"wants numbers of shape ({rows},)"
        )
    return array.astype(np.float64)


def _codes(path: Path, card: Card, arrays: Arrays, space: SearchSpace) -> Codes:
    codes = arrays.get("codes")
    count = len(space.positions)
    if codes is None or codes.ndim != 2 or codes.shape[1] != count or codes.dtype.kind not in "iu":
        shape = "is missing" if codes is None else f"has shape {codes.shape}, type {codes.dtype}"
        raise TableError(
            f"table '{path}': 'codes' {shape}; the card has {count} positions, "
            f"so it wants integers of shape [rows, {count}]"
        )
    if card.rows is not None and card.rows != len(codes):
        raise TableError(f"table '{path}': {len(codes)} rows, its card says {card.rows}")
    outside = (codes < 0) | (codes >= space.cardinalities)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        position = space.positions[column]
        raise TableError(
            f"table '{path}': row {row} has option {codes[row, column]} at '{position.name}', "
            f"its card lists {len(position.choices)} options"
        )
    if not len(codes):
        raise TableError(f"table '{path}' has no rows")
    checked: Codes = codes.astype(np.uint8)
    return checked
