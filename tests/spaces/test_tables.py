from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_searcher.spaces.errors import TableError
from lm_searcher.spaces.nb201.space import nb201
from lm_searcher.spaces.ncode import to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.table_files import load_table, table_path
from lm_searcher.spaces.tables import Table, joined, numbers_or_text

CODES = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1]], np.int8)
ACC = np.array([10, 20, 30, 40, 50, 60], np.float32)
Change = Callable[[dict[str, Any], dict[str, Any]], object]


def good() -> tuple[dict[str, Any], dict[str, Any]]:
    card = {
        "name": "tiny",
        "rows": 6,
        "positions": [
            {"name": "width", "options": ["16", "32", "64"]},
            {"name": "act", "options": ["relu", "gelu"]},
        ],
        "metrics": {"acc": {"direction": "max", "unit": "%"}, "ms": {"direction": "min"}},
    }
    return card, {"codes": CODES, "acc": ACC, "ms": 7 - ACC / 10}


def write(folder: Path, card: object, arrays: dict[str, Any]) -> Path:
    path = folder / "tiny.npz"
    np.savez_compressed(path, **arrays)
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


def npz(folder: Path, change: Change = lambda card, arrays: None) -> Path:
    card, arrays = good()
    change(card, arrays)
    return write(folder, card, arrays)


def refused(path: Path, metric: str = "acc", **options: Any) -> str:
    with pytest.raises(TableError) as refusal:
        load_table(path, metric=metric, **options)
    message = str(refusal.value)
    assert path.stem in message and "\n" not in message
    return message


# -- npz with its card --------------------------------------------------------------------------


def test_an_npz_with_its_card(tmp_path: Path) -> None:
    table = load_table(npz(tmp_path), metric="acc")
    assert table.space.name == "tiny"
    width, act = table.space.positions
    assert (width.name, width.choices, width.ordered) == ("width", (16, 32, 64), True)
    assert (act.name, act.choices, act.ordered) == ("act", ("relu", "gelu"), False)
    assert table.directions == {"acc": "max", "ms": "min"}
    assert table.column("acc").tolist() == [10, 20, 30, 40, 50, 60]
    assert table.column("ms").dtype == np.float64
    assert table.codes.dtype == np.uint8 and table.complete
    assert table.rows[bytes([2, 1])] == [5]


def entry(name: str, change: Callable[[Any], object]) -> Change:
    return lambda card, arrays: card.__setitem__(name, change(card.get(name)))


def array(name: str, change: Callable[[Any], object]) -> Change:
    return lambda card, arrays: arrays.__setitem__(name, change(arrays.get(name)))


DISAGREEMENTS: dict[str, tuple[Change, str]] = {
    "a row too many": (entry("rows", lambda _: 7), "6 rows, its card says 7"),
    "a metric without array": (
        lambda card, arrays: arrays.pop("ms"),
        "the card describes 'ms', the file has no such array",
    ),
    "a metric of another length": (array("ms", lambda a: a[:5]), "'ms' has shape (5,)"),
    "a metric of two dimensions": (array("ms", lambda a: a[:, None]), "'ms' has shape (6, 1)"),
    "a metric of text": (array("ms", lambda a: a.astype(str)), "'ms' has shape (6,) and type <U"),
    "no codes": (lambda card, arrays: arrays.pop("codes"), "'codes' is missing"),
    "codes of a position too few": (array("codes", lambda c: c[:, :1]), "has shape (6, 1)"),
    "codes of one dimension": (array("codes", lambda c: c[:, 0]), "has shape (6,)"),
    "codes that are no integers": (array("codes", lambda c: c / 1.0), "type float64"),
    "an option beyond the card's": (
        array("codes", lambda c: np.where(c == 2, 3, c)),
        "row 4 has option 3 at 'width', its card lists 3 options",
    ),
    "a negative option": (
        array("codes", lambda c: np.where(c == 2, -1, c)),
        "row 4 has option -1 at 'width'",
    ),
    "no rows": (
        lambda card, arrays: [
            arrays.update({n: a[:0] for n, a in arrays.items()}),
            card.pop("rows"),
        ],
        "has no rows",
    ),
    "no positions": (lambda card, arrays: card.pop("positions"), "positions is missing"),
    "empty positions": (entry("positions", lambda _: []), "no positions"),
    "no metrics": (lambda card, arrays: card.pop("metrics"), "metrics is missing"),
    "a list of metrics": (entry("metrics", lambda _: ["acc"]), "metrics = ['acc']; accepted"),
    "an entry that is no table": (
        entry("metrics", lambda _: {"acc": "max"}),
        "metrics['acc'] = 'max'",
    ),
    "no name": (lambda card, arrays: card.pop("name"), "name is missing"),
    "duplicate options": (
        lambda card, arrays: card["positions"][1].update(options=["relu", "relu"]),
        "position 'act': duplicate choices",
    ),
    "too many options": (
        lambda card, arrays: card["positions"][1].update(options=list("ab" * 9) + list(range(30))),
        "position 'act'",
    ),
    "an unknown direction": (
        entry("metrics", lambda _: {"acc": {"direction": "up"}}),
        "metrics['acc']: direction = 'up'; accepted: max, min",
    ),
}


@pytest.mark.parametrize("name", DISAGREEMENTS)
def test_a_card_that_disagrees_with_its_arrays(tmp_path: Path, name: str) -> None:
    change, message = DISAGREEMENTS[name]
    assert message in refused(npz(tmp_path, change))


def test_a_card_that_is_a_list(tmp_path: Path) -> None:
    assert "accepted: a table with name, positions, metrics" in refused(
        write(tmp_path, ["x"], good()[1])
    )


def test_rows_need_not_be_counted_and_directions_need_not_be_known(tmp_path: Path) -> None:
    def change(card: dict[str, Any], arrays: dict[str, Any]) -> None:
        del card["rows"]
        card["metrics"] = {"acc": {}, "ms": {"direction": None}}

    assert load_table(npz(tmp_path, change), metric="acc").directions == {}


def test_a_missing_file_card_or_metric(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "tiny.npz")
    path = npz(tmp_path)
    message = refused(path, metric="acx")
    assert "unknown metric 'acx'; did you mean 'acc'? (accepted: acc, ms)" in message
    path.with_suffix(".json").write_text("{")
    assert "is no valid JSON" in refused(path)
    path.with_suffix(".json").unlink()
    assert "its card 'tiny.json' is missing" in refused(path)


def test_another_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "tiny.parquet").write_text("x")
    assert "accepted are .npz (with its .json card) and .csv" in refused(tmp_path / "tiny.parquet")


def test_no_damage_to_the_file_gets_past(tmp_path: Path) -> None:
    path = npz(tmp_path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        refused(path)
    damaged = 0
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            load_table(path, metric="acc")  # some bytes mean nothing: dates, attributes
        except TableError:
            damaged += 1
    assert damaged > len(whole) // 10


def test_files_that_are_not_what_they_are_named(tmp_path: Path) -> None:
    path = npz(tmp_path)
    with path.open("wb") as file:
        np.save(file, ACC)
    assert "is damaged or no .npz file" in refused(path)
    path.write_text("codes,acc")
    assert "is damaged or no .npz file" in refused(path)


def test_pickled_arrays_are_not_loaded(tmp_path: Path) -> None:
    path = npz(tmp_path, array("ms", lambda a: np.array([{}] * 6, dtype=object)))
    assert "is damaged or no .npz file" in refused(path)


def test_the_users_space_is_held_against_the_card(tmp_path: Path) -> None:
    path = npz(tmp_path)
    same = SearchSpace.of("mine", {"width": [16, 32, 64], "act": ["relu", "gelu"]})
    assert load_table(path, metric="acc", space=same).complete
    for positions, message in (
        ({"width": [16, 32, 64]}, "2 positions, 'mine' has 1"),
        (
            {"width": [16, 32, 64], "act": ["gelu", "relu"]},
            "it has 'act' ['relu', 'gelu'], not 'act' ['gelu', 'relu']",
        ),
        (
            {"width": [16.0, 32.0, 64.0], "act": ["relu", "gelu"]},
            "it has 'width' [16, 32, 64], not 'width' [16.0, 32.0, 64.0]",
        ),
    ):
        other = SearchSpace.of("mine", positions)  # type: ignore[arg-type]
        assert message in refused(path, space=other)


@pytest.mark.parametrize(
    ("options", "choices"),
    [
        (["1", "2"], (1, 2)),
        (["0.5", "1.5"], (0.5, 1.5)),
        (["1", "2.5"], (1.0, 2.5)),
        (["1", "x"], ("1", "x")),
        (["1", "1.0"], ("1", "1.0")),  # two options that are one number stay text
        (["nan", "1"], ("nan", "1")),
        (["inf", "1"], ("inf", "1")),
        ([1, 2], (1, 2)),
        ([0.5, 1.5, 2.5], (0.5, 1.5, 2.5)),
        ([False, True], (False, True)),
    ],
)
def test_options_are_numbers_where_all_are(
    options: list[object], choices: tuple[object, ...]
) -> None:
    found = numbers_or_text(options)
    assert found == choices and list(map(type, found)) == list(map(type, choices))


def test_a_table_that_comes_with_the_package_goes_by_its_name(tmp_path: Path) -> None:
    path = npz(tmp_path)
    assert table_path("builtin:tiny", tmp_path) == path
    assert table_path(Path("builtin:tiny"), tmp_path) == path  # as a run file has it
    assert table_path("x/t.csv", tmp_path) == Path("x/t.csv")
    for name in ("tinny", "../tiny", "tiny.npz", ""):
        with pytest.raises(TableError) as refusal:
            table_path(f"builtin:{name}", tmp_path)
        assert f"unknown built-in table '{name}'" in str(refusal.value)
        assert "(accepted: tiny)" in str(refusal.value)
    with pytest.raises(TableError, match="unknown built-in table 'none'"):
        load_table("builtin:none", metric="acc")


# -- a table itself -------------------------------------------------------------------------------


def test_the_digest_tells_contents_apart() -> None:
    space = SearchSpace.of("s", {"a": [1, 2]})
    codes = np.array([[0], [1]], np.uint8)

    def digest(*values: float, codes: Any = codes) -> str:
        return Table(space, codes, {"m": np.array(values)}, {}).digest("m")

    assert digest(1, 2) == digest(1, 2)
    assert len({digest(1, 2), digest(2, 1), digest(1, 2, codes=codes[::-1])}) == 3


# -- the real ones --------------------------------------------------------------------------------

REAL = {
    "accel_nasbench": 5_138,
    "help_latency_nb201": 15_625,
    "hpobench_segment": 30_000,
    "hpolib_protein_structure": 62_208,
    "nasbench201": 15_625,
    "nasbench_bert_flexibert": 500,
    "nasbench_graph_arxiv": 26_206,
    "nasbench_graph_cora": 26_206,
    "nasbench_macro": 6_561,
    "nasbench_mr_seg": 2_507,
}


@pytest.mark.parametrize("name", REAL)
def test_the_real_tables_load(name: str, shared_data: Callable[[str], Path]) -> None:
    path = shared_data(f"{name}.npz")
    card = json.loads(path.with_suffix(".json").read_text())
    metric = next(iter(card["metrics"]))
    table = load_table(path, metric=metric)
    assert len(table.codes) == REAL[name]
    assert all(map(table.space.is_valid, to_ncodes(table.codes[:50])))
    for metric, described in card["metrics"].items():
        known = table.column(metric)[~np.isnan(table.column(metric))]
        if "min" in described:
            assert known.min() == pytest.approx(described["min"], rel=1e-4)
            assert known.max() == pytest.approx(described["max"], rel=1e-4)


def test_nasbench201_is_of_the_built_in_space(shared_data: Callable[[str], Path]) -> None:
    table = load_table(shared_data("nasbench201.npz"), metric="c10_val", space=nb201())
    assert table.complete
    assert table.column("c10_val").max() == pytest.approx(91.6, abs=0.5)


# -- two tables of the same architectures -----------------------------------------------------


def pair(**other: Any) -> tuple[Table, Table]:
    space = SearchSpace.of("tiny", {"width": [16, 32, 64], "act": ["relu", "gelu"]})
    again = SearchSpace.of("again", {"w": [16, 32, 64], "a": ["relu", "gelu"]})
    first = Table(space, CODES.astype(np.uint8), {"acc": ACC.astype(float)}, {"acc": "max"})
    second = Table(again, CODES[::-1].astype(np.uint8), {"ms": np.arange(6.0)}, {"ms": "min"})
    return first, replace(second, **other)


def test_tables_are_joined_by_architecture() -> None:
    table = joined(*pair())
    assert table.column("ms").tolist() == [5, 4, 3, 2, 1, 0]
    assert table.directions == {"acc": "max", "ms": "min"} and table.space.name == "tiny"


def test_several_rows_of_an_architecture_are_averaged() -> None:
    codes = np.concatenate([CODES, CODES[:1]]).astype(np.uint8)
    table = joined(*pair(codes=codes, metrics={"ms": np.array([1.0, 2, 3, 4, 5, 6, 9])}))
    assert table.column("ms").tolist() == [5, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"space": SearchSpace.of("x", {"a": [1, 2], "b": [1, 2]})}, "is of another space"),
        ({"metrics": {"acc": ACC}}, "has a metric 'acc' too"),
        ({"codes": CODES[:5].astype(np.uint8)}, "no row for '21'"),
    ],
)
def test_tables_that_cannot_be_joined(other: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError, match=message):
        joined(*pair(**other))
