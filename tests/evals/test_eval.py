"""The harness: what it measures, that it goes on after a kill, and what it refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lm_searcher.agent.cli.app import main
from lm_searcher.agent.search import Search
from lm_searcher.evals.chain import Chain
from lm_searcher.evals.digits_benchmark import UNITS, distinct_cells, pack
from lm_searcher.evals.problems import table_problem
from lm_searcher.evals.study import Study, search
from lm_searcher.evals.study_runs import run_study
from lm_searcher.spaces.builtin import builtin
from lm_searcher.spaces.errors import ConfigError, TableError
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.table_files import load_table, table_path
from lm_searcher.tools.evaluators.table import TableEvaluator

SPACE = SearchSpace.of("little", {"a": list("wxyz"), "b": list("wxyz"), "c": list("wxyz")})
CODES = SPACE.enumerate()


def write_table(folder: Path, **columns: Any) -> Path:
    """A table of 64 architectures; by default `score` is their digits' sum, the best is 333."""
    metrics = {"score": CODES.sum(axis=1), "test": 100 - CODES.sum(axis=1), **columns}
    arrays = {name: np.asarray(values, np.float32) for name, values in metrics.items()}
    np.savez(folder / "t.npz", codes=CODES.astype(np.int8), allow_pickle=False, **arrays)
    card = {
        "name": "little",
        "rows": 64,
        "positions": [{"name": p.name, "options": list(p.choices)} for p in SPACE.positions],
        "metrics": {name: {"direction": "max"} for name in metrics},
    }
    (folder / "t.json").write_text(json.dumps(card))
    return folder / "t.npz"


def study(path: Path, **options: Any) -> Study:
    return Study(**{"table": str(path), "metric": "score", "evaluations": 30, "seeds": 3,
                    "marks": (5, 30), **options})  # fmt: skip


def test_regret_value_and_test_are_those_of_the_table(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    result = run_study(study(path, test_metric="test", evaluations=64, marks=(1, 64)), ["random"])
    row = result["methods"]["random"]
    assert row["regret"]["64"] == 0 and row["found"]["64"] == 1  # all 64 were evaluated
    assert row["value"]["64"] == 9 and row["test"]["64"] == 91
    curves = np.array(row["curves"])
    assert curves.shape == (3, 64) and np.all(np.diff(curves, axis=1) >= 0)
    first = (9 - curves[:, 0]) / (9 - np.median(CODES.sum(axis=1)))
    assert row["regret"]["1"] == pytest.approx(first.mean(), abs=1e-6)


def test_minimising_is_maximising_the_negative(tmp_path: Path) -> None:
    path = write_table(tmp_path, negative=-CODES.sum(axis=1).astype(float))
    more = run_study(study(path), ["evolution"])["methods"]["evolution"]
    less = run_study(study(path, metric="negative", direction="min"), ["evolution"])
    assert less["methods"]["evolution"]["regret"] == more["regret"]
    assert less["best"] == -9


def test_all_methods_begin_alike_and_the_good_ones_end_better(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    methods = run_study(study(path, seeds=6), ["random", "evolution"])["methods"]
    curves = {name: np.array(row["curves"]) for name, row in methods.items()}
    assert np.array_equal(curves["random"][:, :5], curves["evolution"][:, :5])
    assert methods["evolution"]["regret"]["30"] < methods["random"]["regret"]["30"]


def test_a_sampled_table_limits_the_pool_to_its_rows(tmp_path: Path) -> None:
    path = write_table(tmp_path)
    with np.load(path) as file:
        half = {name: file[name][::2] for name in file.files}
    np.savez(path, allow_pickle=False, **half)
    card = json.loads((tmp_path / "t.json").read_text())
    (tmp_path / "t.json").write_text(json.dumps(card | {"rows": 32}))
    row = run_study(study(path, evaluations=40, marks=(40,)), ["evolution"])["methods"]["evolution"]
    assert row["regret"]["40"] == 0  # after 32 there is no more, and none of them failed


def test_single_seeds_are_noisy_confirmed_and_judged_by_the_mean(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = write_table(tmp_path)
    noisy = CODES.sum(axis=1)[:, None] + rng.normal(size=(64, 3))
    noisy[:, 2] = np.nan  # where there are two seeds only
    seeds = tmp_path / "t_seeds.npz"
    np.savez(seeds, codes=CODES.astype(np.int8), scores=noisy, allow_pickle=False)
    one = study(path, seed_metric="scores", evaluations=64, marks=(20, 64))
    found = search(one, "random", 0)
    assert len(found.values) == 64 and set(found.values) <= set(map(float, CODES.sum(axis=1)))
    assert run_study(one, ["random"])["methods"]["random"]["regret"]["64"] < 0.6
    with pytest.raises(TableError, match=r"has no 'nope' .it has: .*scores"):
        study(path, seed_metric="nope").problem()


def test_a_killed_study_goes_on(tmp_path: Path) -> None:
    path, keep = write_table(tmp_path), tmp_path / "kept"
    whole = run_study(study(path), ["evolution", "random"], keep=keep)
    _, *lines = keep.read_text().split("\n")
    assert len(lines) == 6
    keep.write_text("\n".join(["", *lines[:3], lines[3][:40]]))  # cut short while it wrote
    marked = [json.loads(line) for line in lines[:3]]
    again = run_study(study(path), ["evolution", "random"], keep=keep)
    for result in (whole, again):
        for row in result["methods"].values():
            del row["seconds_per_decision"]
    assert again == whole
    assert keep.read_text().count("\n") == 4 + 3, "three searches were not run again"
    assert {(m["method"], m["seed"]) for m in marked} == {("evolution", s) for s in range(3)}


def test_the_best_of_a_chain_is_the_best() -> None:
    chain = Chain(5, 3, 0)
    assert chain.best == pytest.approx(chain(chain.space.enumerate()).max())


Eval = Callable[..., tuple[int, str]]


@pytest.fixture
def run_eval(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Eval:
    """`lm-searcher eval` in this process: its exit code and what it prints to standard error."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["lm-searcher", "eval", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), capsys.readouterr().err

    return run


@pytest.mark.slow
def test_the_command(tmp_path: Path, run_eval: Eval) -> None:
    path, out, plot = write_table(tmp_path), tmp_path / "out.json", tmp_path / "out.png"
    words = ["--table", str(path), "--metric", "score", "--test-metric", "test", "--seeds", "2"]
    words += ["--evaluations", "20", "--marks", "10,20", "--methods", "evolution,random"]
    code, err = run_eval(*words, "--workers", "2", "--json", str(out), "--plot", str(plot))
    assert code == 0, err
    result = json.loads(out.read_text())
    assert set(result) >= {"table", "metric", "direction", "evaluations", "seeds", "methods"}
    assert set(result["methods"]) == {"evolution", "random"}
    for row in result["methods"].values():
        assert set(row) >= {"regret", "found", "value", "test", "seconds_per_decision", "curves"}
        assert set(row["regret"]) == {"10", "20"}
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.json", "out.png", "t.json", "t.npz"]


NAN = np.where(np.arange(64) == 7, np.nan, 1.0)
INFINITE = np.where(np.arange(64) == 7, np.inf, 1.0)


@pytest.mark.parametrize(
    ("column", "message"),
    [(NAN, "nan in row 7"), (INFINITE, "inf in row 7"), (np.ones(64), "nothing to find")],
)
def test_a_table_nobody_can_search_is_refused(
    tmp_path: Path, column: np.ndarray[Any, Any], message: str
) -> None:
    path = write_table(tmp_path, bad=column)
    with pytest.raises(TableError, match=message):
        table_problem(str(path), "bad")
    with pytest.raises(TableError, match="unknown metric 'scroe'; did you mean 'score'"):
        table_problem(str(path), "scroe")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--marks", "10,200"], "--marks 10,200; accepted: 1 to --evaluations 100"),
        (["--marks", "ten"], "--marks ten"),
        (["--methods", "evolutoin"], "did you mean 'evolution'"),
        (["--seeds", "0"], "--seeds 0"),
        (["--direction", "up"], "--direction up"),
        (["--protocol", "seed"], "--seed-metric"),
        (["--metric", "nope"], "unknown metric 'nope'"),
        (["--json", "no/such/folder/out.json"], "no such folder"),
    ],
)
def test_a_bad_command_line_is_one_line(
    tmp_path: Path, run_eval: Eval, flags: list[str], message: str
) -> None:
    path = write_table(tmp_path)
    code, err = run_eval("--table", str(path), "--metric", "score", *flags)
    assert code == 2
    assert message in err and len(err.splitlines()) == 1


def test_a_bad_chain_is_refused() -> None:
    with pytest.raises(ConfigError, match="chain:POSITIONSxOPTIONS"):
        Study(table="chain:nonsense").problem()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table as `pack` writes it, of made-up results: a cell is as good as its digits' sum."""
    folder = tmp_path_factory.mktemp("data")
    cells = distinct_cells()
    lines = [
        json.dumps({"ncode": c, **dict.fromkeys(UNITS, sum(map(int, c)) / 100)}) for c in cells
    ]
    (folder / "cells.jsonl").write_text("".join(line + "\n" for line in lines))
    pack(folder / "cells.jsonl", folder / "digits-nb201.npz", seed=0)
    return table_path("builtin:digits-nb201", folder)


def test_one_row_a_class_of_cells_is_the_whole_space(packed: Path) -> None:
    table = load_table(packed, metric="val_accuracy")
    space = builtin("nb201")
    classes = {space.canonical(c) for c in ("333103", "444444", "012340", "000000")}
    assert len(table.rows) == 6466 and not table.complete
    assert classes <= {"".join(map(str, row)) for row in table.codes}
    assert load_table(packed, metric="val_accuracy", space=space).space.name == "digits-nb201"


@pytest.mark.parametrize("given", ["the table's space", "nb201"])
def test_a_search_over_one_row_a_class_meets_no_hole(packed: Path, given: str) -> None:
    table = load_table(packed, metric="val_accuracy")
    space = builtin("nb201") if given == "nb201" else table.space
    evaluator = TableEvaluator(table, "val_accuracy")
    result = Search(space, evaluator, ranker="evolution", trials=150, seed=1, store="memory").run()
    assert not result.failures and len(result.trials) == 150
    canonical = {builtin("nb201").canonical(t.ncode) for t in result.trials}
    assert canonical == {t.ncode for t in result.trials}  # 150 different architectures
    assert result.incumbent is not None and result.incumbent.value > 0.2


def test_a_study_of_a_table_of_classes(packed: Path) -> None:
    problem = table_problem(str(packed), "val_accuracy", "test_accuracy")
    assert problem.best == pytest.approx(0.24) and problem.value("444444") == problem.best
    one = Study(str(packed), "val_accuracy", evaluations=60, seeds=1, marks=(60,))
    row = run_study(one, ["evolution"])["methods"]["evolution"]
    assert 0 <= row["regret"]["60"] < 0.5
