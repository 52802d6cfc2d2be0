"""The study of landscapes: each statistic on functions whose answer is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from warm import WarmProcess

from lm_searcher.evals.landscape_statistics import (
    Statistics,
    Values,
    neighbours,
    quantiles,
    statistics,
)
from lm_searcher.evals.landscapes import NAMES, place, study, task_statistics
from lm_searcher.spaces.errors import TableError
from lm_searcher.spaces.landscapes.space_shape import SpaceShape
from lm_searcher.spaces.ncode import Codes

SHAPE = SpaceShape(np.full(6, 4), np.zeros(6, bool), np.arange(6))
DESIGNS = np.stack(np.meshgrid(*[np.arange(4, dtype=np.uint8)] * 6), -1).reshape(-1, 6)


def of(function: Callable[[Codes], Values], rows: int = 1500) -> Statistics:
    rng = np.random.default_rng(0)
    codes = DESIGNS[rng.permutation(len(DESIGNS))[:rows]]
    return statistics(SHAPE, codes, function(codes), function, rng)


TABLE = np.random.default_rng(1).normal(size=(6, 4))
HASHED = np.random.default_rng(2).normal(size=4**6)


def additive(codes: Codes) -> Values:
    return np.asarray(TABLE[np.arange(6), codes].sum(axis=1))


def pairs(codes: Codes) -> Values:
    parts = [(codes[:, i] // 2 == codes[:, i + 1] % 2).astype(float) for i in (0, 2, 4)]
    return np.asarray(parts[0] + 0.7 * parts[1] + 0.4 * parts[2])


def unrelated(codes: Codes) -> Values:
    return np.asarray(HASHED[codes @ 4 ** np.arange(6)])


def one_position(codes: Codes) -> Values:
    return codes[:, 2].astype(float)


def test_an_additive_landscape() -> None:
    found = of(additive)
    assert found.additive > 0.95 and found.pairwise < 0.05 and found.rest < 0.05
    assert found.near1 > found.near2 > 0.3 and found.top_agreement > 0.4


def test_a_landscape_of_pairs() -> None:
    found = of(pairs)
    assert found.additive < 0.05 and found.pairwise > 0.85


def test_values_that_have_nothing_to_do_with_the_design() -> None:
    found = of(unrelated)
    assert found.additive < 0.02 and found.rest > 0.97
    assert abs(found.near1) < 0.1 and abs(found.top_agreement) < 0.15
    assert abs(found.skewness) < 0.3 and 0.7 < found.lower_tail < 1.4


def test_a_single_position_that_matters() -> None:
    found = of(one_position)
    assert found.first > 0.99 and found.spread == pytest.approx(1 / 6, abs=0.01)
    # One of six edits meets that position, and then the value is another one of four.
    assert found.near1 == pytest.approx(1 - (1 / 6) * 4 / 3, abs=0.04)
    assert found.near2 == pytest.approx(1 - (2 / 6) * 4 / 3, abs=0.05)


def test_importance_is_spread_where_all_positions_do_alike() -> None:
    assert of(lambda codes: codes.sum(axis=1).astype(float)).spread > 0.95


def test_monotone_bends_change_the_tails_alone() -> None:
    straight, bent = of(additive), of(lambda codes: -np.exp(-additive(codes)))
    assert bent.skewness < straight.skewness - 1 and bent.lower_tail > 2 * straight.lower_tail
    same = ("additive", "pairwise", "first", "near1", "top_agreement")
    assert [getattr(bent, n) for n in same] == [getattr(straight, n) for n in same]
    scaled = of(lambda codes: 5 + 1000 * additive(codes))
    assert scaled.skewness == pytest.approx(straight.skewness)


def test_neighbours_differ_by_exactly_so_many_edits() -> None:
    shape = SpaceShape(np.array([4, 1, 2, 3]), np.zeros(4, bool), np.arange(4))
    codes = shape.sample(200, np.random.default_rng(0))
    for edits in (1, 2):
        others = neighbours(shape, codes, edits, np.random.default_rng(1))
        assert ((others != codes).sum(axis=1) == edits).all()
        assert (others < shape.cardinalities).all()


def test_standing() -> None:
    found = quantiles(np.array([0.0, 1.0, 1.5, np.nan]), np.array([1.0, 1.0, 2.0, 3.0]))
    assert found[:3].tolist() == [0.0, 0.25, 0.5] and np.isnan(found[3])


def test_places_in_the_prior_pass_over_what_is_not_known() -> None:
    prior = np.array([[0.0, np.nan], [1.0, 5.0], [2.0, 7.0], [3.0, np.nan]])
    assert place(np.array([2.5, 6.0]), prior).tolist() == [0.75, 0.5]
    assert np.isnan(place(np.array([np.nan, 6.0]), prior)[0])


def table(folder: Path, values: Values, codes: Codes = DESIGNS) -> Path:
    np.savez(folder / "t.npz", codes=codes.astype(np.int8), y=values, allow_pickle=False)
    positions = [{"name": f"p{i}", "options": list("wxyz")} for i in range(6)]
    card = {"name": "t", "positions": positions, "metrics": {"y": {"direction": "min"}}}
    (folder / "t.json").write_text(json.dumps(card))
    return folder / "t.npz"


def test_a_table_gives_what_the_function_in_it_gives(tmp_path: Path) -> None:
    path = table(tmp_path, -additive(DESIGNS))
    result = study([f"{path}:y"], tasks=3, rows=1500, seed=0)
    (entry,) = result["tables"].values()
    assert entry["value"]["additive"] > 0.95 and entry["value"]["near1"] > 0.5
    assert entry["value"]["skewness"] == pytest.approx(of(additive).skewness, abs=0.1)
    assert set(entry["place"].values()) <= {0.0, 0.3333, 0.6667, 1.0}
    assert result["tasks"] + result["constant"] == 3
    assert all(set(row) == set(NAMES) for row in result["prior"].values())


def test_a_table_without_neighbours_has_no_correlation(tmp_path: Path) -> None:
    even = DESIGNS[DESIGNS.sum(axis=1) % 16 == 0]  # few are one edit apart, none for certain
    path = table(tmp_path, additive(even), even)
    ((entry),) = study([f"{path}:y"], tasks=1, rows=300, seed=0)["tables"].values()
    assert entry["value"]["near1"] is None and entry["place"]["near1"] is None


def test_a_task_is_that_of_its_seed() -> None:
    assert task_statistics(3, 300) == task_statistics(3, 300)
    assert task_statistics(3, 300) != task_statistics(4, 300)


def test_mistakes(tmp_path: Path) -> None:
    path = table(tmp_path, additive(DESIGNS))
    with pytest.raises(TableError, match="unknown metric 'z'"):
        study([f"{path}:z"], 1, 300, 0)
    with pytest.raises(TableError, match="unknown built-in table 'none'"):
        study(["builtin:none:z"], 1, 300, 0)


@pytest.mark.slow
def test_the_command(tmp_path: Path, warm_python: Callable[..., WarmProcess]) -> None:
    path = table(tmp_path, additive(DESIGNS))
    words = ["--tables", f"{path}:y", "--tasks", "2", "--rows", "300", "--json", "out.json"]
    command = ["-m", "lm_searcher.evals.landscapes", *words]
    done = warm_python(*command, cwd=tmp_path)
    out, err = done.communicate()
    assert done.returncode == 0 and err == ""
    assert "tasks, 50 %" in out and "t y" in out
    result = json.loads((tmp_path / "out.json").read_text())
    assert list(result["tables"]) == [f"{path}:y"]
    command[command.index(f"{path}:y")] = f"{path}:z"
    done = warm_python(*command, cwd=tmp_path)
    _, err = done.communicate()
    assert done.returncode == 2 and err.startswith("landscapes: table 't'")
    assert err.count("\n") == 1
