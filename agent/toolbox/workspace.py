"""The folder that tools work in, and what its user allows there."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from pathlib import Path

from lm_searcher.agent.settings.run_file import NAME
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.spaces.errors import ConfigError, unknown

RUN_FILE = "run.toml"
"""The run file in a run's folder: start_search writes it, resuming reads it."""

EXTRA_FILE = "extra.toml"
"""The run file of a process that evaluates requested architectures only."""

RESERVED = ("spaces", "tables")
"""Folders of a workspace that hold no run."""


@dataclass
class Workspace:
    """A folder of runs, with `spaces` (TOML files) and `tables` beside them.

    Tools read and write nothing outside the folder. They call no function, read no data and ask
    no server that these settings do not name.
    """

    folder: Path = Path("runs")
    budget_trials: int | None = None
    """Trials that tools may start without a user's confirmation; None: any number."""
    functions: tuple[str, ...] = ()
    """The "module:function" evaluators that tools may use."""
    rankers: tuple[str, ...] = ()
    """Rankers that tools may use beside the built-in ones, such as "endpoint:MODEL@URL"."""
    data: Path | None = None
    """The folder of CIFAR's files; None: only embedded data sets."""
    committed: int = field(default=0, init=False)
    """Trials of the budget that tools have used so far."""
    latest: str | None = field(default=None, init=False)
    """The run that was started or named last."""
    interrupted: threading.Event = field(default_factory=threading.Event, init=False, repr=False)
    """Set by the program that serves the tools, to make a waiting tool return at once."""
    _approved: dict[str, int] = field(default_factory=dict, init=False)
    """Trials by run that count against the budget already."""

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()

    def inside(self, *parts: str) -> Path:
        """The path of these parts. Raises ConfigError if it is outside the workspace."""
        path = self.folder.joinpath(*parts)
        if not path.resolve().is_relative_to(self.folder):
            raise ConfigError(f"'{'/'.join(parts)}' lies outside of the workspace")
        return path

    def names(self) -> list[str]:
        """The names of the runs, the oldest first."""
        found = [
            path
            for path in self.folder.glob("*/")
            if path.name not in RESERVED
            and ((path / "trials.db").exists() or (path / RUN_FILE).exists())
        ]
        return [path.name for path in sorted(found, key=lambda path: path.stat().st_mtime)]

    def files(self, run: str | None) -> RunFiles:
        """The files of that run, or of the latest one. Raises ConfigError if there is none."""
        names = self.names()
        name = run or (self.latest if self.latest in names else None) or (names or [""])[-1]
        if not name:
            raise ConfigError("there is no run yet; begin one with start_search")
        if name not in names:
            raise ConfigError(unknown("run", name, names))
        self.latest = name
        return self.files_of(name)

    def files_of(self, name: str) -> RunFiles:
        """The files of a run of that name, which need not exist. Raises ConfigError for a name that
        is not allowed."""
        if not re.fullmatch(NAME, name) or name in RESERVED:
            raise ConfigError(f"name '{name}'; accepted: letters, digits, '.', '_' and '-'")
        for part in ((name,), (name, "trials.db"), (name, RUN_FILE)):
            self.inside(*part)
        return RunFiles.of(name, self.folder, None)

    # -- the budget in trials --------------------------------------------------------------

    def left(self) -> int | None:
        """Trials that may still be started without a confirmation; None: any number."""
        return None if self.budget_trials is None else max(0, self.budget_trials - self.committed)

    def uncounted(self, run: str, done: int, total: int) -> int:
        """The trials of a run up to `total` that do not count against the budget yet."""
        return max(0, total - max(done, self._approved.get(run, 0)))

    def commit(self, run: str, done: int, total: int) -> None:
        """Count the trials of a run up to `total` against the budget."""
        self.committed += self.uncounted(run, done, total)
        self._approved[run] = max(total, self._approved.get(run, 0))

    def over_budget(self, trials: int) -> str | None:
        """Why `trials` more trials need a confirmation; None if they are within the budget."""
        left = self.left()
        if left is None or trials <= left:
            return None
        if self.budget_trials == 0:
            return f"{trials} trial{'s' * (trials > 1)}"
        return f"{trials} trials, {left} are left of the {self.budget_trials} that need no asking"
