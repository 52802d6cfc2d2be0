"""Searches with several trials at a time on a simulated clock."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lm_searcher.evals.parallel import MODES, SimulatedSearch, study
from lm_searcher.evals.problems import Problem, table_problem
from lm_searcher.spaces.space import SearchSpace

SPACE = SearchSpace.of("little", {f"p{i}": list("wxyz") for i in range(4)})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    codes = SPACE.enumerate()
    values = codes.sum(axis=1).astype(np.float32)
    np.savez(tmp_path / "t.npz", codes=codes.astype(np.int8), gain=values, allow_pickle=False)
    card = {
        "name": "t",
        "positions": [{"name": p.name, "options": list(p.choices)} for p in SPACE.positions],
        "metrics": {"gain": {"direction": "max"}},
    }
    (tmp_path / "t.json").write_text(json.dumps(card))
    return tmp_path / "t.npz"


def problem(table: Path) -> Problem:
    return table_problem(str(table), "gain", None, None, None)


def test_places_are_used_as_the_mode_says(table: Path) -> None:
    searches = {}
    for mode in MODES:
        search = searches[mode] = SimulatedSearch.of(problem(table), "evolution", 0, 24)
        best = search.run(mode, 4)
        assert len(best) == 24 and (np.diff(best) >= 0).all() and not search.running
        assert sorted(search.order) == list(range(24)) and len(set(search.ncodes)) == 24
    assert searches["sequential"].order == list(range(24))
    order = searches["batch"].order
    assert [sorted(order[i : i + 4]) for i in range(0, 24, 4)] == np.arange(24).reshape(
        6, 4
    ).tolist()
    times = [searches[mode].now for mode in ("asynchronous", "batch", "sequential")]
    assert times == sorted(times)


@pytest.mark.slow
def test_a_study(table: Path) -> None:
    rows = list(study(table, "gain", seeds=2, places=4, trials=50, ranker="evolution", workers=2))
    assert [row["mode"] for row in rows] == list(MODES)
    for row in rows:
        assert set(row) == {"mode", "metric", "places", "seeds", "25", "50"}
        assert row["50"][0] <= row["25"][0] <= 1  # type: ignore[index]
