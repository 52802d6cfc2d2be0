"""Where a run keeps its files."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from lm_searcher.agent.study.storage import MEMORY, sqlite_path


@dataclass(frozen=True)
class RunFiles:
    """The places of one run. Everything lies beside a SQLite store, or in the run's folder."""

    name: str
    url: str
    folder: Path

    @classmethod
    def of(cls, name: str, folder: Path, url: str | None) -> RunFiles:
        """By default the store is SQLite in ``folder/name``."""
        home = folder / name
        if url is None:
            place = str(home / "trials.db").replace("%", "%25").replace("?", "%3F")
            return cls(name, f"sqlite:///{place}", home)
        path = sqlite_path(url)
        return cls(name, url, path.parent if path else home)

    def _beside(self, suffix: str) -> Path:
        path = sqlite_path(self.url)
        return self.folder / (f"{path.name}.{self.name}{suffix}" if path else self.name + suffix)

    @property
    def checkpoints(self) -> Path:
        """The SQLite file of the graph's checkpoints."""
        return self._beside(".checkpoints")

    @property
    def lock(self) -> Path:
        """Held by the process that drives the run."""
        return self._beside(".lock")

    @property
    def requests(self) -> Path:
        """The folder where requests by hand come in."""
        return self._beside(".requests")

    @property
    def log(self) -> Path:
        """What evaluations print, and the tracebacks of those that raise."""
        return self._beside(".log")

    def remove_empty(self) -> None:
        """Leave no trace of a run that did not begin."""
        with contextlib.suppress(OSError):
            if self.log.stat().st_size == 0:
                self.log.unlink()
            self.folder.rmdir()
            if self.folder.name == self.name:  # in a folder of runs, made for this one perhaps
                self.folder.parent.rmdir()

    @property
    def kept(self) -> bool:
        """Whether anything is written at all."""
        return self.url != MEMORY
