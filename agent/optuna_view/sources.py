"""Where the view's runs come from: the stores of live runs, or results that are at hand."""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Protocol

from lm_searcher.agent.optuna_view.freshness import store_state
from lm_searcher.agent.results.result import Result, read_run
from lm_searcher.agent.results.run_list import run_names
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.spaces.errors import StoreError, unknown

_log = logging.getLogger("lm_searcher.dashboard")


class Source(Protocol):
    """Some runs, by name."""

    def names(self) -> Sequence[str]:
        """The runs there are now."""

    def result(self, name: str) -> Result:
        """A run as it is now: the same object as before, unless something has changed.

        Raises KeyError if there is no such run, StoreError if it cannot be read.
        """


class FixedResults:
    """Results that do not change."""

    def __init__(self, *results: Result) -> None:
        self._results = {result.run: result for result in results}

    def names(self) -> Sequence[str]:
        """See Source."""
        return list(self._results)

    def result(self, name: str) -> Result:
        """See Source."""
        return self._results[name]


class StoredRuns:
    """Runs of a folder or a store: those of the given names, or all that there are at the time.

    A run is read again when its store has changed, which is looked up at most once in `every`
    seconds. If the store cannot be read any more, what was read last stays. Raises StoreError if
    one of the given runs cannot be read at first.
    """

    def __init__(
        self, folder: Path, store: str | None, names: Sequence[str] = (), every: float = 1.0
    ) -> None:
        self.folder, self.store, self.every = folder, store, every
        self._given = list(dict.fromkeys(names))
        self._found: list[str] = []
        self._results: dict[str, Result] = {}
        self._states: dict[str, Hashable] = {}
        self._looked: dict[str | None, float] = {}
        for name in self._given:
            self._results[name] = self._read(name)

    def names(self) -> Sequence[str]:
        """See Source."""
        if not self._given and self._due(None):
            self._looked[None] = time.monotonic()
            try:
                self._found = run_names(self.folder, self.store)
            except StoreError as error:
                if not self._found:
                    raise
                _log.warning("the runs that were found last stay: %s", error)
        return self._given or self._found

    def result(self, name: str) -> Result:
        """See Source."""
        if name not in self.names():
            raise KeyError(unknown("run", name, self.names()))
        if name not in self._results:
            self._results[name] = self._read(name)
        elif self._due(name):
            try:
                self._results[name] = self._read(name)
            except StoreError as error:
                _log.warning("the last result of run '%s' stays: %s", name, error)
        return self._results[name]

    def _due(self, name: str | None) -> bool:
        """Whether to look again whether a run has changed, or which runs there are."""
        return name not in self._looked or time.monotonic() - self._looked[name] >= self.every

    def _read(self, name: str) -> Result:
        """The run as it is, or the last result if it has not changed."""
        self._looked[name] = time.monotonic()
        files = RunFiles.of(name, self.folder, self.store)
        state = store_state(files)  # before reading: what is written meanwhile is read once more
        if name in self._results and state == self._states.get(name):
            return self._results[name]
        result = read_run(files)
        self._states[name] = state
        return result
