"""A search that the survival tests start and kill: `python searching.py FOLDER KEYWORDS`.

KEYWORDS are those of Search, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from lm_searcher.agent.search import Search
from lm_searcher.spaces.space import SearchSpace

SPACE = SearchSpace.of("grid", {f"p{i}": [0, 1, 2, 3, 4] for i in range(5)})


def measure(config: dict[str, int], seed: int, ncode: str) -> dict[str, float]:
    """A smooth objective with seed noise; leaves a mark for each time that it was called."""
    with open(os.environ["CALLS"], "a") as calls:
        calls.write(f"{ncode}\n")
    clean = -sum((value - 3) ** 2 for value in config.values())
    return {"value": clean + seed % 1000 / 1000}


def search(folder: Path, **keywords: Any) -> None:
    """A run of 40 trials in `folder`, begun or gone on with, confirmation included."""
    os.environ["CALLS"] = str(folder / "calls")
    Search(
        SPACE,
        measure,
        **{
            "trials": 40,
            "seed": 7,
            "name": "run",
            "folder": folder,
            "memory": {"start": 10, "width": 1.0, "elites": 2, "stagnation": 12},
            "confirm": {"top": 2, "seeds": 2},
            **keywords,
        },
    ).run()


if __name__ == "__main__":
    search(Path(sys.argv[1]), **json.loads(sys.argv[2]))
