"""The runs of a folder or a store, one row each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lm_searcher.agent.results.result import read_run
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.stored_run import studies
from lm_searcher.spaces.errors import StoreError


def run_names(folder: Path, url: str | None) -> list[str]:
    """The names of the runs in a folder, or of the studies in the store at a URL."""
    if url is None:
        return sorted(path.parent.name for path in folder.glob("*/trials.db"))
    return studies(url)


def list_runs(folder: Path, url: str | None) -> list[dict[str, Any]]:
    """A row per run in a folder, or in the store at a URL; other studies are left out.

    A store in the folder that cannot be read is a row whose state says why.
    """
    rows = []
    for name in run_names(folder, url):
        try:
            result = read_run(RunFiles.of(name, folder, url))
        except StoreError as error:
            if url is None:
                rows.append(_row(name, f"unreadable: {error}"))
            continue
        best = result.incumbent
        rows.append(
            _row(name, result.state, result.space.name, len(result.trials))
            | {"best": best and best.value, "ncode": best and best.ncode}
            | ({"front": len(result.front)} if result.objectives.several else {})
        )
    return rows


def _row(name: str, state: str, space: str = "", trials: int = 0) -> dict[str, Any]:
    return {
        "run": name,
        "state": state,
        "space": space,
        "trials": trials,
        "best": None,
        "ncode": None,
    }
