"""A workspace with a table in it, and runs made in this process."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lm_searcher.agent.search import Search
from lm_searcher.agent.settings import toml
from lm_searcher.agent.toolbox.arguments import StartSearch
from lm_searcher.agent.toolbox.start import plan
from lm_searcher.agent.toolbox.workspace import RUN_FILE, Workspace

Run = Callable[..., str]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Its table `grid.csv` has positions a, b, c with options 0 to 5; acc is best, 0, at 2, 3, 1
    and a counts four times as much."""
    tables = tmp_path / "runs" / "tables"
    tables.mkdir(parents=True)
    lines = ["a,b,c,acc"]
    for code in itertools.product(range(6), repeat=3):
        a, b, c = ((o - best) ** 2 for o, best in zip(code, (2, 3, 1), strict=True))
        lines.append(f"{','.join(map(str, code))},{-4 * a - b - c}")
    (tables / "grid.csv").write_text("\n".join(lines) + "\n")
    return Workspace(tmp_path / "runs", budget_trials=50)


@pytest.fixture
def run(workspace: Workspace) -> Run:
    """Makes a finished run as start_search would, but without a process of its own."""

    def finished(name: str, **arguments: Any) -> str:
        given = {"evaluator": "table", "table": "grid.csv", "metric": "acc", "ranker": "evolution"}
        args = StartSearch.model_validate(given | {"name": name, "trials": 12} | arguments)
        files, document = plan(workspace, args)
        toml.write_text(files.folder / RUN_FILE, toml.dumps(document))
        Search.from_file(files.folder / RUN_FILE).run()
        return name

    return finished
