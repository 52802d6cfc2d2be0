"""What a search works with, made from its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from lm_searcher.agent.settings.run_file import RunFile, Settings
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.builtin import BUILTIN, builtin
from lm_searcher.spaces.constraints import Constraint
from lm_searcher.spaces.errors import ConfigError, SpaceError, unknown
from lm_searcher.spaces.objectives import Goal
from lm_searcher.spaces.settings import SettingsModel, checked
from lm_searcher.spaces.space import Choice, SearchSpace
from lm_searcher.spaces.space_file import load_space
from lm_searcher.tools.evaluators.derived import METRICS, derived
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.evaluators.settings import RunInfo
from lm_searcher.tools.evaluators.table import TableEvaluator, TableSettings
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.evaluators.training.recipe import REPORTED
from lm_searcher.tools.feasibility import Feasibility
from lm_searcher.tools.proposer import Proposer
from lm_searcher.tools.protocols import Evaluator


def find_space(name: str | Path, **settings: Any) -> SearchSpace:
    """A built-in space by its name, or the user's by the path of a TOML file.

    Raises SpaceError.
    """
    if str(name) in BUILTIN:
        return builtin(str(name), **settings)
    if Path(name).suffix == ".toml" or Path(name).exists():
        return load_space(name)
    raise SpaceError(f"{unknown('space', str(name), BUILTIN)}, or the path of a TOML file")


def as_space(space: SearchSpace | str | Path | Mapping[str, Sequence[Choice]]) -> SearchSpace:
    """The search space that the Python API was given, in whichever form. Raises SpaceError."""
    if isinstance(space, SearchSpace):
        return space
    if isinstance(space, Mapping):
        return SearchSpace.of("space", space)
    return find_space(space)


def as_evaluator(
    evaluator: Evaluator | Callable[..., Any] | str | None, deterministic: bool | None = None
) -> Evaluator:
    """The evaluator that the Python API was given; None is for ask and tell.

    `deterministic` says of a user's function whether a second measurement would only repeat the
    first; None is the default of a run file. Raises ConfigError if it is said of an Evaluator,
    which has an attribute for it.
    """
    given: dict[str, Any] = {} if deterministic is None else {"deterministic": deterministic}
    if evaluator is not None and hasattr(evaluator, "evaluate"):
        if given:
            raise ConfigError("Search: deterministic is for functions; set it on the evaluator")
        return cast(Evaluator, evaluator)
    return FunctionEvaluator("ask:tell" if evaluator is None else evaluator, **given)


def from_run_file(run_file: RunFile) -> tuple[SearchSpace, Evaluator]:
    """The space and the evaluator of a run file. Raises UserError for what cannot work."""
    section = run_file.evaluator
    measured = (name for name in run_file.named_metrics if name not in METRICS)
    run = RunInfo(next(measured, None), run_file.run.folder)
    space = _space(run_file)
    if space is not None:
        return space, section.make(space, run)
    assert isinstance(section, TableSettings)  # the run file was checked
    evaluator = section.make(None, run)
    return evaluator.table.space, evaluator


def _space(run_file: RunFile) -> SearchSpace | None:
    section = run_file.space
    if section.path is not None:
        return load_space(section.path)
    if section.name is None:
        return None
    defaults = run_file.evaluator.space_defaults(section.name)
    return builtin(section.name, **{**defaults, **section.settings})


def objective_set_of(settings: Settings, evaluator: Evaluator) -> ObjectiveSet:
    """The objectives that the settings name, or else the evaluator's own metric.

    Sets on the evaluator which of its metrics those are.
    """
    goals = [Goal(entry.metric, entry.direction) for entry in settings.objectives]
    if not goals:
        one = settings.objective
        direction = one.direction or evaluator.direction
        goals = [Goal(one.metric or evaluator.metric, direction)]
    objectives = ObjectiveSet(tuple(goals), tuple(map(Constraint.parse, settings.constraints)))
    computed = derived(evaluator, objectives.metrics)
    measured = [name for name in objectives.metrics if name not in computed]
    if objectives.metric in measured:
        evaluator.metric = objectives.metric
    if isinstance(evaluator, TableEvaluator):
        evaluator.also = tuple(name for name in measured if name != evaluator.metric)
    return objectives


def make_proposer(
    space: SearchSpace, evaluator: Evaluator, objectives: ObjectiveSet, size: int
) -> Proposer:
    """The proposer of pools of `size`, limited to the rows of a sampled table and to architectures
    whose known costs are feasible. Raises ConfigError if none is left."""
    rows = None
    if isinstance(evaluator, TableEvaluator) and not evaluator.table.complete:
        rows = evaluator.table.codes
    return Proposer(space, rows, size, Feasibility.of(space, evaluator, objectives.constraints))


def check_fidelity(evaluator: Evaluator, settings: Settings) -> None:
    """Raises ConfigError for a full fidelity that the evaluator does not know, and for a pruner
    whose reports would be of another metric than the objective."""
    known: Sequence[str] = getattr(evaluator, "budgets", ())
    for name, value in settings.confirm.full.items():
        if name not in known:
            accepted = ", ".join(known) or "none, its fidelity is fixed"
            raise ConfigError(
                f"[confirm] {name} = {value:g} is no budget of this evaluator; accepted: {accepted}"
            )
    if isinstance(evaluator, TrainEvaluator):
        full = evaluator.at(settings.confirm.full)
        _ = full.recipe, full.settings
    objective = next(iter(settings.named_metrics), evaluator.metric)
    reported = REPORTED if isinstance(evaluator, TrainEvaluator) else (evaluator.metric,)
    if settings.pruner.name != "none" and objective not in reported:
        raise ConfigError(
            f"[pruner] name = '{settings.pruner.name}' stops trials by the objective, which is "
            f"'{objective}'; known after each epoch: {', '.join(reported)}"
        )


FLAT = ("objective", "ranker", "budget", "executor", "run")
"""Sections whose keys are keywords of the Python API by themselves."""
SHORT = {"ranker": "name", "store": "url", "executor": "kind"}
"""Sections that a keyword may give by one key alone, as in ``ranker="tpe"``."""


def keywords() -> dict[str, tuple[str, ...]]:
    """Each keyword of the Python API with the section that it stands for, and the key in it."""
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in Settings.model_fields}
    for section in FLAT:
        model: SettingsModel = Settings.model_fields[section].default
        keys = (key for key in type(model).model_fields if SHORT.get(section) != key)
        found |= {key: (section, key) for key in keys}
    return found


def settings_of(given: Mapping[str, Any]) -> Settings:
    """The settings that the Python API's keywords stand for; None is the default.

    Raises ConfigError.
    """
    places, document = keywords(), dict[str, Any]()
    for keyword, value in given.items():
        if keyword not in places:
            raise ConfigError("Search: " + unknown("keyword", keyword, places))
        section, *key = places[keyword]
        if section in SHORT and not key and not isinstance(value, Mapping):
            key = [SHORT[section]]
        if value is None:
            continue
        if key:
            document.setdefault(section, {})[key[0]] = value
        elif isinstance(value, Mapping) and isinstance(document.get(section, {}), dict):
            document[section] = document.get(section, {}) | dict(value)
        else:
            document[section] = value
    return checked(Settings, document, "Search")
