"""Where a run keeps its files."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from lm_searcher.agent.study.sqlite_files import sqlite_path
from lm_searcher.agent.study.storage import MEMORY


@dataclass(frozen=True)
class RunFiles:
    """The files of one run: beside a SQLite store, or else in the run's folder."""

    name: str
    url: str
    folder: Path

    @classmethod
    def of(cls, name: str, folder: Path, url: str | None) -> RunFiles:
        """The files of run `name`; without a URL its store is SQLite in ``folder/name``."""
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
    def lock(self) -> Path:
        """The file that versions before format 3 locked while they drove the run."""
        return self._beside(".lock")

    @property
    def requests(self) -> Path:
        """The folder where users' requests arrive."""
        return self._beside(".requests")

    @property
    def log(self) -> Path:
        """The output of evaluations, and the tracebacks of failed ones."""
        return self._beside(".log")

    def remove_empty(self) -> None:
        """Remove the empty files and folders of a run that did not begin."""
        with contextlib.suppress(OSError):
            if self.log.stat().st_size == 0:
                self.log.unlink()
            self.folder.rmdir()
            if self.folder.name == self.name:  # the folder of runs may have been made for this run
                self.folder.parent.rmdir()

    @property
    def kept(self) -> bool:
        """Whether the run writes anything to disk."""
        return self.url != MEMORY
