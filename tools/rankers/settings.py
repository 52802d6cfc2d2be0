"""[ranker]: the settings of a ranker, and the rankers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, SerializeAsAny
from pydantic_core import PydanticCustomError

from lm_searcher.spaces.errors import unknown
from lm_searcher.spaces.registry import Registry
from lm_searcher.spaces.settings import NOT_A_CHOICE, Count, CountOrZero, SettingsModel
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Objective, Ranker


class RankerSettings(SettingsModel):
    """[ranker]: which ranker picks, from how large a pool, after how many random trials.

    A ranker with keys of its own has a subclass that overrides `make`.
    """

    ROLE: ClassVar = "ranker"
    FORM: ClassVar[str] = ""
    """How the name is written of a ranker that asks a model, as in "lm:PATH-OR-ID"."""

    name: str = "local"
    """Which ranker picks the architectures: a name, or a model as endpoint:MODEL@URL or
    lm:PATH-OR-ID."""
    initial: CountOrZero = 5
    """Random trials before the ranker is asked."""
    pool: Count = 1000
    """Candidates drawn for each trial in a space of more than 20,000 architectures; of a smaller
    space, all architectures are candidates."""

    @property
    def settings(self) -> dict[str, Any]:
        """The ranker's own keys, where they were given."""
        own = set(type(self).model_fields) - set(RankerSettings.model_fields)
        return self.model_dump(include=own, exclude_unset=True, exclude_none=True)

    def make(self, space: SearchSpace, objective: Objective) -> Ranker:
        """The ranker for `space`. Raises UserError."""
        factory: Any = RANKERS[self.name]
        ranker: Ranker = factory(space)
        return ranker


RankerEntry = type[RankerSettings] | Callable[[SearchSpace], Ranker]
"""Makes a ranker: called with the space; or the settings of a ranker that has keys of its own."""

_HERE = "lm_searcher.tools.rankers"
RANKERS: Registry[RankerEntry] = Registry(
    "ranker",
    "lm_searcher.rankers",
    {
        "random": f"{_HERE}.random:RandomRanker.for_space",
        "local": f"{_HERE}.incontext.section:LocalSettings",
        "evolution": f"{_HERE}.evolution:EvolutionRanker.for_space",
        "forest": f"{_HERE}.forest:ForestRanker",
        "tpe": f"{_HERE}.optuna_samplers:tpe",
        "gp": f"{_HERE}.optuna_samplers:gp",
        "nsga2": f"{_HERE}.optuna_samplers:nsga2",
    },
)
"""A new ranker is one file and one line."""

MODELS: Registry[type[RankerSettings]] = Registry(
    "ranker",
    "lm_searcher.model_rankers",
    {
        "endpoint": f"{_HERE}.endpoint.section:EndpointRankerSettings",
        "lm": f"{_HERE}.lm.section:LMRankerSettings",
    },
)
"""Rankers that ask a model, by the prefix of their name; the model is named after the colon."""


def is_ranker(name: str) -> bool:
    """Whether there is a ranker of this name."""
    prefix, colon, model = name.partition(":")
    return bool(name in RANKERS or (colon and model and prefix in MODELS))


def ranker_names() -> Iterator[str]:
    """The accepted names, in messages."""
    yield from RANKERS
    yield from (MODELS[prefix].FORM for prefix in MODELS)


def ranker_settings(given: Any) -> Any:
    """The settings of a section [ranker], by its `name`.

    Raises pydantic's errors. What is no table is returned as it is, for pydantic to refuse.
    """
    if not isinstance(given, Mapping):
        return given
    name = given.get("name") or RankerSettings.model_fields["name"].default
    if not isinstance(name, str):
        return RankerSettings.model_validate(given)
    if not is_ranker(name):
        context = {"message": unknown("ranker", name, ranker_names())}
        raise PydanticCustomError(NOT_A_CHOICE, "{message}", context)
    entry = RANKERS[name] if name in RANKERS else MODELS[name.partition(":")[0]]
    if not (isinstance(entry, type) and issubclass(entry, RankerSettings)):
        entry = RankerSettings
    return entry.model_validate({**given, "name": name})


RankerChoice = Annotated[SerializeAsAny[RankerSettings], BeforeValidator(ranker_settings)]
"""The field [ranker]: the settings of the ranker that `name` names."""


class RankerSection(SettingsModel):
    """The section [ranker] by itself."""

    ranker: RankerChoice
