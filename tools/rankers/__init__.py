"""Rankers by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lm_searcher.spaces.errors import ConfigError, SpaceError, unknown
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Objective, Ranker
from lm_searcher.tools.rankers.evolution import EvolutionRanker
from lm_searcher.tools.rankers.forest import ForestRanker
from lm_searcher.tools.rankers.random import RandomRanker


def _optuna(name: str) -> Callable[[SearchSpace], Ranker]:
    def make(space: SearchSpace) -> Ranker:
        from lm_searcher.tools.rankers import optuna_samplers  # takes half a second to import

        makers = {"tpe": optuna_samplers.tpe, "gp": optuna_samplers.gp}
        ranker: Ranker = {**makers, "nsga2": optuna_samplers.nsga2}[name](space)
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

OWN = {"local": ("weights",)}
"""The settings of those of them that take any."""

UNNAMED = Objective()


def _endpoint(
    what: str, space: SearchSpace, settings: Mapping[str, Any], objective: Objective
) -> Ranker:
    from lm_searcher.tools.rankers.endpoint.ranker import EndpointRanker  # loads openai

    return EndpointRanker.for_space(what, space, settings, objective)


def _lm(what: str, space: SearchSpace, settings: Mapping[str, Any], objective: Objective) -> Ranker:
    from lm_searcher.tools.rankers.lm.ranker import LMRanker  # loads torch

    return LMRanker.for_space(what, space, settings, objective)


MODELS: dict[str, Callable[[str, SearchSpace, Mapping[str, Any], Objective], Ranker]] = {
    "endpoint": _endpoint,
    "lm": _lm,
}
"""Rankers that ask a model, by the prefix of the name; what comes after ``prefix:`` names it."""

FORMS = ("endpoint:MODEL@URL", "lm:PATH-OR-ID[+ADAPTER]")
"""How such names are written, for people who wrote another."""


def check_name(name: str) -> None:
    """Raises ConfigError, with what there is, for a name that is no ranker's."""
    prefix, colon, model = name.partition(":")
    if not (name in RANKERS or (colon and model and prefix in MODELS)):
        raise ConfigError(unknown("ranker", name, [*RANKERS, *FORMS]))


def make_ranker(
    name: str,
    space: SearchSpace,
    settings: Mapping[str, Any] = {},
    objective: Objective = UNNAMED,
) -> Ranker:
    """The ranker of that name for `space`.

    `settings` are keys of [ranker], `objective` is for rankers that read words. Raises
    ConfigError for an unknown name, which lists the names, and for a setting that the ranker
    does not take.
    """
    check_name(name)
    if name not in RANKERS:
        prefix, _, model = name.partition(":")
        return MODELS[prefix](model, space, settings, objective)
    own = OWN.get(name, ())
    if others := [key for key in settings if key not in own]:
        accepted = f"no settings but {', '.join(own)}" if own else "no settings"
        raise ConfigError(f"[ranker] {others[0]}: ranker '{name}' takes {accepted}")
    return RANKERS[name](space, **settings)


def make_fallback(name: str | None, space: SearchSpace) -> Ranker:
    """What decides when a model does not: `local` unless another is named, or `evolution` for a
    space that `local` does not take. Raises ConfigError for a name that asks a model itself."""
    if name is None:
        try:
            return make_ranker("local", space)
        except SpaceError:
            return make_ranker("evolution", space)
    if name not in RANKERS:
        raise ConfigError(f"[ranker] fallback: {unknown('ranker', name, RANKERS)}")
    return make_ranker(name, space)
