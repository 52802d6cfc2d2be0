"""Run files over two tables of the same architectures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lm_searcher.agent.search import Search
from lm_searcher.spaces.errors import TableError
from lm_searcher.spaces.space import SearchSpace

SPACE = SearchSpace.of("tiny", {"a": [1, 2, 3, 4], "b": [1, 2, 3, 4]})
CODES = SPACE.enumerate()


def write(path: Path, codes: np.typing.NDArray[np.uint8], **metrics: object) -> None:
    arrays = {name: np.asarray(values, np.float32) for name, values in metrics.items()}
    np.savez(path, codes=codes.astype(np.int8), allow_pickle=False, **arrays)
    card = {
        "name": path.stem,
        "positions": [{"name": p.name, "options": list(p.choices)} for p in SPACE.positions],
        "metrics": {name: {"direction": "min" if name == "ms" else "max"} for name in metrics},
    }
    path.with_suffix(".json").write_text(json.dumps(card))


RUN = """
objectives = [{{metric = "acc", direction = "max"}}, {{metric = "ms", direction = "min"}}]
[evaluator]
kind = "table"
path = "{folder}/acc.npz"
join = ["{folder}/{other}.npz"]
[ranker]
name = "evolution"
[budget]
trials = 16
[store]
url = "memory"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "acc.npz", CODES, acc=CODES.sum(axis=1))
    write(tmp_path / "ms.npz", CODES[::-1], ms=CODES[::-1].prod(axis=1))
    write(tmp_path / "half.npz", CODES[:8], ms=np.arange(8))
    return tmp_path


def test_each_metric_is_from_its_table(folder: Path) -> None:
    (folder / "run.toml").write_text(RUN.format(folder=folder, other="ms"))
    result = Search.from_file(folder / "run.toml").run()
    values = {trial.ncode: trial.values for trial in result.trials}
    assert len(values) == 16
    assert all(v == (int(a) + int(b), int(a) * int(b)) for (a, b), v in values.items())


def test_a_table_that_lacks_architectures(folder: Path) -> None:
    (folder / "run.toml").write_text(RUN.format(folder=folder, other="half"))
    with pytest.raises(TableError, match="table 'half' has no row for '20'"):
        Search.from_file(folder / "run.toml")
