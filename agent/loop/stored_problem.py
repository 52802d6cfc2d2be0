"""The problem of a stored run, from what the run has stored of its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lm_searcher.agent.problem import Problem
from lm_searcher.agent.settings.build import as_evaluator, from_run_file
from lm_searcher.agent.settings.run_file import RunFile, Settings
from lm_searcher.agent.study.identity import stored_space
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.records import CONFIG
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.settings import checked


def stored_problem(files: RunFiles, attributes: Mapping[str, Any]) -> Problem:
    """The problem of the run with those attributes.

    A run of the Python API has stored neither its space's file nor its evaluator: the problem then
    has the stored options, and an evaluator that knows no costs; see `check_evaluator_known`.
    Raises UserError.
    """
    config, name = attributes.get(CONFIG, {}), f"run '{files.name}'"
    if "evaluator" in config:
        run_file = checked(RunFile, config, name)
        space, evaluator = from_run_file(run_file)
        return replace(Problem.of(space, evaluator, run_file), files=files)
    settings = checked(Settings, config, name)
    problem = Problem.of(stored_space(attributes["space"]), as_evaluator(None), settings)
    return replace(problem, files=files, objectives=ObjectiveSet.stored(attributes["objective"]))


def check_evaluator_known(files: RunFiles, attributes: Mapping[str, Any]) -> None:
    """Raises ConfigError for a run whose candidates may have been limited by an evaluator that only
    its program has: by costs, or by the rows of a table. A function knows neither."""
    kind = attributes.get("evaluator", {}).get("kind", "")
    if "evaluator" not in attributes.get(CONFIG, {}) and kind != "python":
        raise ConfigError(
            f"run '{files.name}' was driven by a program with an evaluator of its own (kind "
            f"'{kind}'), which may have limited the candidates: replay it from there, by "
            "lm_searcher.agent.loop.replay.replay with the search's problem"
        )
