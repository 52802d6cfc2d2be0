"""The project's own table: every distinct NAS-Bench-201 cell on handwritten digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lm_searcher.agent.search import Search
from lm_searcher.evals.digits_benchmark import UNITS, distinct_cells, train_cell
from lm_searcher.evals.study import Study
from lm_searcher.evals.study_runs import run_study
from lm_searcher.spaces.ncode import to_ncodes
from lm_searcher.spaces.table_files import load_table, table_path

NAME = "builtin:digits-nb201"


def test_it_has_every_distinct_cell_once_and_is_small() -> None:
    table = load_table(NAME, metric="val_loss")
    assert to_ncodes(table.codes) == distinct_cells() and len(table.codes) == 6466
    assert set(table.metrics) == set(UNITS)
    assert all(np.isfinite(column).all() for column in table.metrics.values())
    path = table_path(NAME)
    assert sum(p.stat().st_size for p in path.parent.glob("digits-nb201.*")) < 300_000
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["seed"] == 0 and card["cpu_hours"] > 0.5 and card["recipe"]["epochs"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("row", [100, 3000, 6000])
def test_a_cell_trained_again_is_as_good(row: int) -> None:
    table = load_table(NAME, metric="val_loss")
    again = train_cell(to_ncodes(table.codes[[row]])[0], seed=0)
    assert again["val_loss"] == pytest.approx(table.column("val_loss")[row], abs=0.1)
    assert again["params_m"] == pytest.approx(float(table.column("params_m")[row]), rel=1e-5)


@pytest.mark.slow
def test_the_local_ranker_finds_better_cells_than_chance() -> None:
    study = Study(NAME, "val_loss", "test_accuracy", evaluations=30, seeds=3, marks=(30,))
    methods = run_study(study, ["local", "random"])["methods"]
    assert methods["local"]["regret"]["30"] < methods["random"]["regret"]["30"]
    assert methods["local"]["test"]["30"] > 0.9


def test_a_search_over_it_never_leaves_its_rows(tmp_path: Path) -> None:
    run_file = tmp_path / "t.toml"
    run_file.write_text(
        f'[evaluator]\nkind = "table"\npath = "{NAME}"\nmetric = "val_loss"\n'
        '[budget]\ntrials = 25\n[ranker]\nname = "evolution"\n'
        f'[run]\nfolder = "{tmp_path}"\n'
    )
    result = Search.from_file(run_file).run()
    cells = set(distinct_cells())
    assert len(result.trials) == 25 and all(t.ncode in cells for t in result.trials)
    assert all(t.value is not None for t in result.trials)
