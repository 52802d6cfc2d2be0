"""The folder that tools work in, and what the person allows in it."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from pathlib import Path

from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.spaces.errors import ConfigError, unknown
from lm_searcher.spaces.settings import NAME

RUN_FILE = "run.toml"
"""What start_search writes into a run's folder, and who goes on with the run reads."""

EXTRA_FILE = "extra.toml"
"""The same, for a trial that was asked for by hand."""

RESERVED = ("spaces", "tables")
"""Folders of a workspace that are no run's."""


@dataclass
class Workspace:
    """A folder of runs, with `spaces` (TOML files) and `tables` beside them.

    Tools read and write nothing outside of it. What is not in these settings, a tool cannot do:
    no other function is called, no other data read, no server asked.
    """

    folder: Path = Path("runs")
    budget_trials: int | None = None
    """Trials that tools may start before a person is asked; None: any number."""
    functions: tuple[str, ...] = ()
    """The "module:function" evaluators that tools may name."""
    rankers: tuple[str, ...] = ()
    """Rankers beyond the built-in ones that tools may name, such as "endpoint:MODEL@URL"."""
    data: Path | None = None
    """Where CIFAR lies; None: only digits."""
    committed: int = field(default=0, init=False)
    """Trials of the budget that tools have started so far."""
    latest: str | None = field(default=None, init=False)
    """The run that was begun or named last."""
    interrupted: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    """Set by whoever serves the tools, to make one that waits return at once."""
    _approved: dict[str, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()

    def inside(self, *parts: str) -> Path:
        """The path of these parts; raises ConfigError if it leads out of the workspace."""
        path = self.folder.joinpath(*parts)
        if not path.resolve().is_relative_to(self.folder):
            raise ConfigError(f"'{'/'.join(parts)}' lies outside of the workspace")
        return path

    def names(self) -> list[str]:
        """The runs there are, the one begun first at the beginning."""
        found = [
            path
            for path in self.folder.glob("*/")
            if path.name not in RESERVED
            and ((path / "trials.db").exists() or (path / RUN_FILE).exists())
        ]
        return [path.name for path in sorted(found, key=lambda path: path.stat().st_mtime)]

    def files(self, run: str | None) -> RunFiles:
        """The files of that run, or of the latest. Raises ConfigError where there is none."""
        names = self.names()
        name = run or (self.latest if self.latest in names else None) or (names or [""])[-1]
        if not name:
            raise ConfigError("there is no run yet; begin one with start_search")
        if name not in names:
            raise ConfigError(unknown("run", name, names))
        self.latest = name
        return self.files_of(name)

    def files_of(self, name: str) -> RunFiles:
        """The files of a run of that name, begun or not. Raises ConfigError for a bad name."""
        if not re.fullmatch(NAME, name) or name in RESERVED:
            raise ConfigError(f"name '{name}'; accepted: letters, digits, '.', '_' and '-'")
        for part in ((name,), (name, "trials.db"), (name, RUN_FILE)):
            self.inside(*part)
        return RunFiles.of(name, self.folder, None)

    # -- what may be spent -----------------------------------------------------------------

    def left(self) -> int | None:
        """Trials that may still be started without asking; None: any number."""
        return None if self.budget_trials is None else max(0, self.budget_trials - self.committed)

    def further(self, run: str, done: int, total: int) -> int:
        """The trials that a run to `total` takes beyond those that count already."""
        return max(0, total - max(done, self._approved.get(run, 0)))

    def commit(self, run: str, done: int, total: int) -> None:
        """Count them."""
        self.committed += self.further(run, done, total)
        self._approved[run] = max(total, self._approved.get(run, 0))

    def beyond(self, trials: int) -> str | None:
        """That so many more trials are beyond the budget, in words; None if they are not."""
        left = self.left()
        if left is None or trials <= left:
            return None
        if self.budget_trials == 0:
            return f"{trials} trial{'s' * (trials > 1)}"
        return f"{trials} trials, {left} are left of the {self.budget_trials} that need no asking"
