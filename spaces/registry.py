"""Components by name: the built-in ones, and those that installed packages add."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from lm_searcher.spaces.errors import ConfigError, UserError, unknown

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Names and what they stand for, imported when it is first looked up.

    A built-in component is one line: its name, and "module:attribute". A package adds components
    by entry points of `group`. A built-in name cannot be taken by a package.

    Looking up an unknown name raises `error`, with the nearest name. So does a component of a
    package that cannot be imported; the message names the package.
    """

    def __init__(
        self,
        what: str,
        group: str,
        builtin: Mapping[str, str],
        error: type[UserError] = ConfigError,
    ) -> None:
        self.what, self.group, self.builtin, self.error = what, group, dict(builtin), error
        self._found: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._found:
            self._found[name] = self._load(name)
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self.builtin or name in self._plugins())

    def __iter__(self) -> Iterator[str]:
        """The built-in names in their order, then those of packages."""
        yield from self.builtin
        yield from sorted(name for name in self._plugins() if name not in self.builtin)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _plugins(self) -> Mapping[str, EntryPoint]:
        return _entry_points(self.group, tuple(sys.path))

    def _load(self, name: str) -> T:
        if name in self.builtin:
            found: T = pkgutil.resolve_name(self.builtin[name])
            return found
        point = self._plugins().get(name)
        if point is None:
            raise self.error(unknown(self.what, name, self))
        try:
            found = point.load()
        except (Exception, SystemExit) as reason:  # the package's code: anything may happen
            package = point.dist.name if point.dist else "?"
            text = " ".join(str(reason).split()) or type(reason).__name__
            raise self.error(
                f"{self.what} '{name}' of package '{package}' cannot be loaded from "
                f"'{point.value}': {text}"
            ) from reason
        return found


@lru_cache
def _entry_points(group: str, path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    """The entry points of a group by name. Finding them reads a file of every installed package,
    so it is done once for each import path."""
    return {point.name: point for point in entry_points(group=group)}
