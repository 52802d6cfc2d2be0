"""From what the user wrote to what a search works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from lm_searcher.agent.config import (
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
from lm_searcher.spaces.builtin import BUILTIN, builtin
from lm_searcher.spaces.errors import ConfigError, SpaceError, unknown
from lm_searcher.spaces.space import Choice, SearchSpace
from lm_searcher.spaces.table import load_table
from lm_searcher.spaces.toml import load_space
from lm_searcher.tools.evaluators.command import CommandEvaluator
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.evaluators.lora.evaluator import LoraEvaluator
from lm_searcher.tools.evaluators.lora.task import TaskSettings
from lm_searcher.tools.evaluators.lora.tasks import make_task, own_base
from lm_searcher.tools.evaluators.recipe import NB201_ON_DIGITS
from lm_searcher.tools.evaluators.table import TableEvaluator
from lm_searcher.tools.evaluators.train import TrainEvaluator
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


def from_run_file(run_file: RunFile) -> tuple[SearchSpace, Evaluator]:
    """The space and the evaluator of a run file. Raises UserError for what cannot work."""
    section = run_file.evaluator
    space = _space(run_file.space, _defaults(section))
    match section:
        case TableSection():
            table = load_table(
                section.path, metric=section.metric, space=space, positions=section.positions
            )
            return space or table.space, TableEvaluator(table, section.metric)
        case TrainSection():
            assert space is not None  # the run file was checked
            options = section.model_dump(exclude={"kind"}, exclude_none=True)
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


def _defaults(section: EvaluatorSection) -> dict[str, dict[str, Any]]:
    """Settings of built-in spaces, by name, that go with the evaluator."""
    match section:
        case TrainSection(dataset="digits"):
            return {"nb201": NB201_ON_DIGITS}
        case LoraSection():
            return {"lora": {"base": own_base(section.task)}}
        case _:
            return {}


def _space(section: SpaceSection, defaults: Mapping[str, Mapping[str, Any]]) -> SearchSpace | None:
    if section.path is not None:
        return load_space(section.path)
    if section.name is None:
        return None
    return builtin(section.name, **{**defaults.get(section.name, {}), **section.settings})


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
SECTIONS = ("memory", "confirm", "pruner")
"""Keywords that are sections themselves, as a dict."""


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
