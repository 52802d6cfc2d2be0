"""Several objectives in the harness: shares of a table's hypervolume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_searcher.evals.command import evaluate
from lm_searcher.evals.fronts import FrontProblem, front_problem
from lm_searcher.evals.study import Study
from lm_searcher.evals.study_runs import run_study
from lm_searcher.spaces.errors import ConfigError, TableError
from lm_searcher.spaces.space import SearchSpace

SPACE = SearchSpace.of("little", {"a": list("wxyz"), "b": list("wxyz"), "c": list("wxyz")})
CODES = SPACE.enumerate()
GAIN = CODES.sum(axis=1).astype(float)
COST = (CODES**2).sum(axis=1).astype(float)


def table(folder: Path, name: str, **columns: Any) -> Path:
    arrays = {key: np.asarray(values, np.float32) for key, values in columns.items()}
    np.savez(folder / f"{name}.npz", codes=CODES.astype(np.int8), allow_pickle=False, **arrays)
    card = {
        "name": name,
        "positions": [{"name": p.name, "options": list(p.choices)} for p in SPACE.positions],
        "metrics": {key: {"direction": "min" if key == "cost" else "max"} for key in columns},
    }
    (folder / f"{name}.json").write_text(json.dumps(card))
    return folder / f"{name}.npz"


@pytest.fixture
def tables(tmp_path: Path) -> tuple[str, str]:
    return str(table(tmp_path, "gains", gain=GAIN)), str(table(tmp_path, "costs", cost=COST))


def problem(tables: tuple[str, str]) -> FrontProblem:
    return front_problem(tables[0], [tables[1]], [("gain", None), ("cost", None)])


def test_shares_by_hand(tables: tuple[str, str]) -> None:
    little = problem(tables)
    assert little.reference.tolist() == [0, -27]
    # The cheapest of each gain: 0, 1, 2, 3, 6, 9, 12, 17, 22, 27; each adds a column of width 1.
    whole = sum(27 - cost for cost in (1, 2, 3, 6, 9, 12, 17, 22, 27))
    assert little.volume == pytest.approx(whole)
    shares = little.shares(["111", "000", "300", "333", "222"])
    want = [3 * 24, 72, 72, 72, 72 + 3 * (27 - 12)]
    assert shares == pytest.approx([w / whole for w in want])


@pytest.mark.slow
def test_a_study_of_two_objectives(tables: tuple[str, str]) -> None:
    study = Study(
        table=tables[0],
        join=(tables[1],),
        objectives=(("gain", None), ("cost", None)),
        evaluations=30,
        seeds=4,
        marks=(10, 30),
    )
    result = run_study(study, ["random", "nsga2", "local"])
    methods = result["methods"]
    curves = {name: np.array(row["curves"]) for name, row in methods.items()}
    assert all((np.diff(c, axis=1) >= 0).all() and c.max() <= 1 + 1e-9 for c in curves.values())
    assert np.array_equal(curves["random"][:, :5], curves["local"][:, :5])
    assert methods["local"]["regret"]["30"] < methods["random"]["regret"]["30"]
    assert not np.array_equal(curves["random"], curves["nsga2"])


def test_all_there_is_to_find(tables: tuple[str, str]) -> None:
    study = Study(
        table=tables[0],
        join=(tables[1],),
        objectives=(("gain", "max"), ("cost", "min")),
        evaluations=70,
        seeds=1,
        marks=(70,),
    )
    row = run_study(study, ["random"])["methods"]["random"]
    assert row["regret"]["70"] == pytest.approx(0) and row["found"]["70"] == 1


@pytest.mark.parametrize(
    ("objectives", "error"),
    [
        ([("gain", None)], ConfigError),
        ([("gain", None), ("gain", "min")], ConfigError),
        ([("gain", None), ("nope", None)], TableError),
        ([("gain", "max"), ("cost", "max")], TableError),
    ],
)
def test_what_is_no_front(
    tables: tuple[str, str], objectives: list[tuple[str, str | None]], error: type[Exception]
) -> None:
    with pytest.raises(error):
        front_problem(tables[0], [tables[1]], objectives)


def test_the_command(
    tables: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, options = tmp_path / "out.json", {"table": tables[0], "join": [tables[1]]}
    command = {**options, "methods": "random", "evaluations": 9, "seeds": 2, "marks": "4,9"}
    evaluate(**command, objectives="gain,cost:min", json_path=out)
    assert "missing hypervolume" in capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["metric"] == "gain / cost"
    assert set(result["methods"]["random"]["regret"]) == {"4", "9"}
    with pytest.raises(ConfigError, match="--objectives go with --join"):
        evaluate(**command, json_path=None)
    with pytest.raises(ConfigError, match="METRIC:max"):
        evaluate(**command, objectives="gain:up,cost")
