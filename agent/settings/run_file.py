"""Run files: the settings of a run, composed from the settings of its components.

Defaults < file < command-line flags. Nothing comes from the environment. A setting is declared
beside the component that uses it; only what belongs to no component is declared here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from lm_searcher.agent.loop.confirmation import Confirm
from lm_searcher.agent.loop.memory import Memory
from lm_searcher.agent.loop.stopping import Budget
from lm_searcher.agent.settings.toml import load_toml
from lm_searcher.agent.study.pruners import PrunerSettings
from lm_searcher.spaces.constraints import Constraint
from lm_searcher.spaces.errors import ConfigError, unknown
from lm_searcher.spaces.settings import NAME, Seed, SettingsModel
from lm_searcher.tools.evaluators.settings import EvaluatorChoice
from lm_searcher.tools.evaluators.table import TableSettings
from lm_searcher.tools.executors.settings import ExecutorChoice, ExecutorSettings
from lm_searcher.tools.rankers.incontext.section import LocalSettings
from lm_searcher.tools.rankers.settings import RankerChoice


class SpaceSettings(SettingsModel):
    """[space]: a built-in space by `name` or a TOML file by `path`, never both."""

    model_config = ConfigDict(extra="allow")  # a built-in space's own settings

    name: str | None = None
    """A built-in space, or that of an installed package; its own settings are further keys."""
    path: Path | None = None
    """The TOML file of a space of your own."""

    @property
    def settings(self) -> dict[str, Any]:
        """The keys for the built-in space: channels, cells, ..."""
        return dict(self.model_extra or {})


class ObjectiveSettings(SettingsModel):
    """[objective]: which metric, and what is better; the evaluator's own by default."""

    metric: str | None = None
    """A metric of the evaluator; default: the evaluator's own choice."""
    direction: Literal["max", "min"] | None = None
    """What is better; default: the evaluator's own choice."""


class ObjectiveEntry(SettingsModel):
    """[[objectives]]: one of several; the result is their Pareto front."""

    metric: str
    """A metric of the evaluator."""
    direction: Literal["max", "min"]
    """What is better."""


class StoreSettings(SettingsModel):
    """[store]: where trials are stored."""

    url: str | None = None
    """A database URL (SQLite, PostgreSQL), or "memory"; default: SQLite in the run's folder."""


class RunSettings(SettingsModel):
    """[run]: the run's name, seed and folder."""

    name: str | None = None
    """The run's name; default: the name of the run file."""
    seed: Seed = 0
    """The seed of every random choice."""
    folder: Path = Path("runs")
    """Where runs are kept."""

    @model_validator(mode="after")
    def _safe_name(self) -> Self:
        if self.name is not None and not re.fullmatch(NAME, self.name):
            raise ValueError(
                f"name '{self.name}'; accepted: up to 100 letters, digits, '.', '_' and '-', "
                "a letter or digit first"
            )
        return self


class Settings(SettingsModel):
    """Everything about a run but its space and evaluator."""

    objective: ObjectiveSettings = ObjectiveSettings()
    objectives: list[ObjectiveEntry] = Field(default_factory=list)
    """Several objectives in place of [objective], as [[objectives]]."""
    constraints: list[str] = Field(default_factory=list)
    """Bounds on metrics, such as "params_m <= 1.0"."""
    ranker: RankerChoice = LocalSettings()
    budget: Budget = Budget()
    memory: Memory = Memory()
    confirm: Confirm = Confirm()
    executor: ExecutorChoice = ExecutorSettings()
    pruner: PrunerSettings = PrunerSettings()
    store: StoreSettings = StoreSettings()
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _objectives_fit(self) -> Self:
        metrics = [entry.metric for entry in self.objectives]
        if metrics and self.objective != ObjectiveSettings():
            raise ValueError("[objective] and objectives are both given; give one of them")
        if twice := [name for name in metrics if metrics.count(name) > 1]:
            raise ValueError(f"objectives: '{twice[0]}' is given twice; each metric once")
        if len(metrics) > 1 and self.budget.target is not None:
            raise ValueError("[budget] target works with one objective; with several, use patience")
        if len(metrics) > 1 and self.pruner.name != "none":
            raise ValueError("[pruner] name: trials are stopped early with one objective only")
        return self

    @model_validator(mode="after")
    def _constraints_parse(self) -> Self:
        bounds: list[Constraint] = []
        for text in self.constraints:
            try:
                bound = Constraint.parse(text)
            except ConfigError as error:
                raise ValueError(str(error)) from None
            if bound in bounds:
                raise ValueError(f"constraints: '{text}' is given twice")
            bounds.append(bound)
        return self

    @property
    def named_metrics(self) -> list[str]:
        """The metrics that the settings name as objectives, in their order."""
        if self.objectives:
            return [entry.metric for entry in self.objectives]
        return [] if self.objective.metric is None else [self.objective.metric]


class RunFile(Settings):
    """A whole run file. `space` may be left out for a table, which has a space of its own."""

    space: SpaceSettings = SpaceSettings()
    evaluator: EvaluatorChoice

    @model_validator(mode="after")
    def _one_space(self) -> Self:
        space = self.space
        if space.name and space.path:
            raise ValueError("[space] has both name and path; give one of them")
        if not space.name and space.settings:
            raise ValueError(
                unknown("key in [space]", next(iter(space.settings)), ["name", "path"])
            )
        table = isinstance(self.evaluator, TableSettings)
        if not space.name and not space.path and not table:
            raise ValueError('[space] is missing; give name = "nb201" or path = "my-space.toml"')
        if table and self.metric is None:
            raise ValueError("[evaluator] metric is missing")
        return self

    @property
    def metric(self) -> str | None:
        """The metric that the search names first; None leaves the choice to the evaluator."""
        return next(iter(self.named_metrics), getattr(self.evaluator, "metric", None))

    def named_after(self, path: str | Path) -> Self:
        """The same with a name for the run: its own, or else that of the file."""
        if self.run.name is not None:
            return self
        name = re.sub(r"[^A-Za-z0-9._-]", "-", Path(path).stem).lstrip("._-")[:100] or "run"
        return self.model_copy(update={"run": self.run.model_copy(update={"name": name})})


def load_run_file(path: str | Path, overrides: Mapping[str, Any] = {}) -> RunFile:
    """The run file at `path`, with `overrides` on top: {section: {key: value}}, and the values of
    keys that are in no section; None removes a section.

    Paths inside the file are relative to the working directory. Raises ConfigError.
    """
    return load_toml(RunFile, "run file", path, overrides)
