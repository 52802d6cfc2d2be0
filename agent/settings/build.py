"""From what the user wrote to what a search works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from lm_searcher.agent.settings.run_file import (
    CommandSection,
    EvaluatorSection,
    LoraSection,
    PythonSection,
    RunFile,
    Settings,
    SpaceSection,
    TableSection,
    TrainSection,
    checked,
)
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.spaces.builtin import BUILTIN, builtin
from lm_searcher.spaces.constraints import Constraint
from lm_searcher.spaces.errors import ConfigError, SpaceError, unknown
from lm_searcher.spaces.objectives import Goal
from lm_searcher.spaces.space import Choice, SearchSpace
from lm_searcher.spaces.space_file import load_space
from lm_searcher.spaces.table_files import load_table
from lm_searcher.spaces.tables import joined
from lm_searcher.tools.data.texts import NAMES as TEXTS
from lm_searcher.tools.evaluators.command import CommandEvaluator
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.evaluators.lora.evaluator import LoraEvaluator
from lm_searcher.tools.evaluators.lora.task import TaskSettings
from lm_searcher.tools.evaluators.lora.tasks import make_task, own_base
from lm_searcher.tools.evaluators.table import TableEvaluator
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.evaluators.training.recipe import NB201_ON_DIGITS, REPORTED
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


def as_evaluator(evaluator: Evaluator | Callable[..., Any] | str | None) -> Evaluator:
    """The evaluator that the Python API was given; None is for ask and tell."""
    if evaluator is None:
        return FunctionEvaluator("ask:tell")
    if isinstance(evaluator, str):
        return FunctionEvaluator(evaluator)
    if hasattr(evaluator, "evaluate"):
        return cast(Evaluator, evaluator)
    return FunctionEvaluator(evaluator)


ON_DIGITS: dict[str, dict[str, Any]] = {
    "darts": {"channels": 8, "cells": 3},
    "macro": {
        "widths": [8, 16, 24], "strides": [1, 2, 2], "depth": 3,
        "stem": 8, "stem_stride": 1, "head": 64,
    },
    "nb201": NB201_ON_DIGITS,
}  # fmt: skip
"""The size of a space's networks that goes with the recipe for digits."""


def from_run_file(run_file: RunFile) -> tuple[SearchSpace, Evaluator]:
    """The space and the evaluator of a run file. Raises UserError for what cannot work."""
    section = run_file.evaluator
    space = _space(run_file.space, _fitting(run_file.space.name, section))
    match section:
        case TableSection():
            metric = section.metric or run_file.metric
            assert metric is not None  # the run file was checked
            named = None if section.join else metric  # which may be in another of the tables
            table = load_table(section.path, metric=named, space=space, positions=section.positions)
            for path in section.join:
                table = joined(table, load_table(path))
            table.column(metric)
            return space or table.space, TableEvaluator(table, metric, known=section.known)
        case TrainSection():
            assert space is not None  # the run file was checked
            options = section.model_dump(exclude={"kind"}, exclude_none=True)
            if section.dataset == "folder":
                options.setdefault("cache", run_file.run.folder / ".images")
            if space.name == "transformer":  # they train badly with SGD
                options.setdefault("optimizer", "adamw")
            return space, TrainEvaluator(space, **options)
        case PythonSection():
            assert space is not None
            return space, FunctionEvaluator(**section.model_dump(exclude={"kind"}))
        case CommandSection():
            assert space is not None
            return space, CommandEvaluator(**section.model_dump(exclude={"kind"}))
        case LoraSection():
            assert space is not None
            return space, _lora(space, section)


def _lora(space: SearchSpace, section: LoraSection) -> LoraEvaluator:
    if "base" not in space.settings:
        raise ConfigError(
            f"[evaluator] kind = 'lora' with space '{space.name}'; accepted: [space] name = 'lora'"
        )
    options = section.model_dump(exclude={"kind", "task"})
    settings = TaskSettings(base=space.settings["base"], **options)
    return LoraEvaluator(space, make_task(section.task, settings))


def _fitting(space: str | None, evaluator: EvaluatorSection) -> dict[str, Any]:
    """The settings of a built-in space that go with what is learned."""
    if space == "lora" and isinstance(evaluator, LoraSection):
        return {"base": own_base(evaluator.task)}
    if not isinstance(evaluator, TrainSection):
        return {}
    if evaluator.dataset == "digits":
        return ON_DIGITS.get(space or "", {})
    if space == "transformer" and evaluator.dataset in TEXTS:
        return {"kind": "decoder"}
    return {}


def _space(section: SpaceSection, defaults: Mapping[str, Any]) -> SearchSpace | None:
    if section.path is not None:
        return load_space(section.path)
    if section.name is None:
        return None
    return builtin(section.name, **{**defaults, **section.settings})


def objective_set_of(settings: Settings, evaluator: Evaluator) -> ObjectiveSet:
    """What is searched for: what the settings say, else the evaluator's own metric.

    The evaluator is told which metrics those are.
    """
    goals = [Goal(entry.metric, entry.direction) for entry in settings.objectives]
    if not goals:
        one = settings.objective
        direction = one.direction or evaluator.direction
        goals = [Goal(one.metric or evaluator.metric, direction)]
    objectives = ObjectiveSet(tuple(goals), tuple(map(Constraint.parse, settings.constraints)))
    evaluator.metric = objectives.metric
    if isinstance(evaluator, TableEvaluator):
        evaluator.also = objectives.metrics[1:]
    return objectives


def make_proposer(
    space: SearchSpace, evaluator: Evaluator, objectives: ObjectiveSet, size: int
) -> Proposer:
    """What draws pools of `size`: of the rows where a table has not all architectures, and
    nothing that is known to break a constraint. Raises ConfigError if that leaves nothing."""
    rows = None
    if isinstance(evaluator, TableEvaluator) and not evaluator.table.complete:
        rows = evaluator.table.codes
    return Proposer(space, rows, size, Feasibility.of(space, evaluator, objectives.constraints))


PLACES = {
    "metric": "objective",
    "direction": "objective",
    "ranker": "ranker",
    "initial": "ranker",
    "pool": "ranker",
    "weights": "ranker",
    "trials": "budget",
    "hours": "budget",
    "target": "budget",
    "patience": "budget",
    "failures": "budget",
    "workers": "executor",
    "batch": "executor",
    "seconds": "executor",
    "memory_gb": "executor",
    "devices": "executor",
    "grace": "executor",
    "store": "store",
    "name": "run",
    "seed": "run",
    "folder": "run",
}
"""The section of each keyword of the Python API."""

RENAMED = {"ranker": "name", "store": "url"}
SECTIONS = ("memory", "confirm", "pruner", "objectives", "constraints")
"""Keywords that are whole sections: a dict, or for the last two a list."""


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
        full = replace(evaluator, **settings.confirm.full)
        _ = full.recipe, full.settings
        if settings.pruner.name != "none" and evaluator.metric not in REPORTED:
            raise ConfigError(
                f"[pruner] name = '{settings.pruner.name}' stops trials by the objective, which is "
                f"'{evaluator.metric}'; known after each epoch: {', '.join(REPORTED)}"
            )


def settings_of(keywords: Mapping[str, Any]) -> Settings:
    """The settings that the Python API's keywords stand for. Raises ConfigError."""
    document: dict[str, Any] = {}
    for key, value in keywords.items():
        if key in SECTIONS:
            document[key] = value
        elif key == "ranker" and isinstance(value, Mapping):  # by its name, with settings
            document.setdefault("ranker", {}).update(value)
        elif key in PLACES:
            if value is not None:
                document.setdefault(PLACES[key], {})[RENAMED.get(key, key)] = value
        else:
            raise ConfigError("Search: " + unknown("keyword", key, [*PLACES, *SECTIONS]))
    return checked(Settings, document, "Search")
