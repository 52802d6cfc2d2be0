"""Rankers by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_searcher.spaces.errors import ConfigError, SpaceError, unknown
from lm_searcher.spaces.settings import checked
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Objective, Ranker
from lm_searcher.tools.rankers.settings import (
    MODELS,
    RANKERS,
    RankerSection,
    is_ranker,
    ranker_names,
)

__all__ = ["MODELS", "RANKERS", "check_name", "make_fallback", "make_ranker"]

UNNAMED = Objective()


def check_name(name: str) -> None:
    """Raises ConfigError, with the accepted names, for a name that no ranker has."""
    if not is_ranker(name):
        raise ConfigError(unknown("ranker", name, ranker_names()))


def make_ranker(
    name: str,
    space: SearchSpace,
    settings: Mapping[str, Any] = {},
    objective: Objective = UNNAMED,
) -> Ranker:
    """The ranker of that name for `space`.

    `settings` are the ranker's own keys of [ranker]; `objective` is for rankers that ask a
    language model. Raises ConfigError for an unknown name, with the accepted names, and for a
    setting that the ranker does not take.
    """
    check_name(name)
    section = checked(RankerSection, {"ranker": {"name": name, **settings}}, f"ranker '{name}'")
    return section.ranker.make(space, objective)


def make_fallback(name: str | None, space: SearchSpace) -> Ranker:
    """The ranker that decides where a model does not: `local` unless another is named, or
    `evolution` for a space that `local` does not take. Raises ConfigError for a ranker that asks
    a model itself."""
    if name is None:
        try:
            return make_ranker("local", space)
        except SpaceError:
            return make_ranker("evolution", space)
    if name not in RANKERS:
        raise ConfigError(f"[ranker] fallback: {unknown('ranker', name, RANKERS)}")
    return make_ranker(name, space)
