"""Built-in search spaces: functions whose settings a model checks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from lm_searcher.spaces.errors import SpaceError
from lm_searcher.spaces.model import FrozenModel, check
from lm_searcher.spaces.space import SearchSpace

Settings = TypeVar("Settings", bound=FrozenModel)


class BuiltinSpace(Generic[Settings]):
    """A function that makes a search space from settings, which are its arguments.

    The model `settings` declares them: names, defaults, bounds and help texts.
    """

    def __init__(
        self, name: str, settings: type[Settings], make: Callable[[Settings], SearchSpace]
    ) -> None:
        self.name, self.settings, self._make = name, settings, make
        self.__doc__ = make.__doc__
        self.__signature__ = inspect.signature(settings)

    def __call__(self, *values: Any, **given: Any) -> SearchSpace:
        """The space. Raises SpaceError for a setting that is unknown or has a bad value."""
        names = list(self.settings.model_fields)[: len(values)]
        given |= dict(zip(names, values, strict=True))
        try:
            settings = check(self.settings, given, what="setting")
        except SpaceError as error:
            raise SpaceError(f"space '{self.name}': {error}") from None
        return self._make(settings)


def builtin_space(
    name: str, settings: type[Settings]
) -> Callable[[Callable[[Settings], SearchSpace]], BuiltinSpace[Settings]]:
    """Decorator for a function that makes a space from an instance of `settings`."""
    return lambda make: BuiltinSpace(name, settings, make)
