"""Rankers by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lm_searcher.spaces.errors import ConfigError, unknown
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Ranker
from lm_searcher.tools.rankers.evolution import EvolutionRanker
from lm_searcher.tools.rankers.forest import ForestRanker
from lm_searcher.tools.rankers.random import RandomRanker


def _optuna(name: str) -> Callable[[SearchSpace], Ranker]:
    def make(space: SearchSpace) -> Ranker:
        from lm_searcher.tools.rankers import optuna  # half a second that others need not wait

        ranker: Ranker = {"tpe": optuna.tpe, "gp": optuna.gp, "nsga2": optuna.nsga2}[name](space)
        return ranker

    return make


def _local(space: SearchSpace, weights: str | Path | None = None) -> Ranker:
    from lm_searcher.tools.rankers.incontext.ranker import InContextRanker  # loads torch

    return InContextRanker.for_space(space, weights)


RANKERS: dict[str, Callable[..., Ranker]] = {
    "random": lambda space: RandomRanker(),
    "local": _local,
    "evolution": lambda space: EvolutionRanker(),
    "forest": ForestRanker,
    "tpe": _optuna("tpe"),
    "gp": _optuna("gp"),
    "nsga2": _optuna("nsga2"),
}


def make_ranker(name: str, space: SearchSpace, **settings: Any) -> Ranker:
    """The ranker of that name for `space`; `settings` are its own keywords.

    Raises ConfigError that lists the names.
    """
    if name not in RANKERS:
        raise ConfigError(unknown("ranker", name, RANKERS))
    return RANKERS[name](space, **settings)
