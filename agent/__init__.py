"""The controller: the graph, its memory and store, the command line and the Python API."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lm_searcher.agent.loop.stopping import Interrupted
    from lm_searcher.agent.optuna_view.storage import RunStorage
    from lm_searcher.agent.results.result import Result
    from lm_searcher.agent.search import Search

__all__ = ["Interrupted", "Result", "RunStorage", "Search"]

_HOMES = {
    "Interrupted": "loop.stopping",
    "Result": "results.result",
    "RunStorage": "optuna_view.storage",
    "Search": "search",
}


def __getattr__(name: str) -> object:
    """The public names, imported when they are first used."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
