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
from lm_searcher.spaces.settings import checked


def stored_problem(files: RunFiles, attributes: Mapping[str, Any]) -> Problem:
    """The problem of the run with those attributes.

    A run of the Python API has stored neither its space's file nor its evaluator: the problem then
    has the stored options, and an evaluator that knows no costs. Raises UserError.
    """
    config, name = attributes.get(CONFIG, {}), f"run '{files.name}'"
    if "evaluator" in config:
        run_file = checked(RunFile, config, name)
        space, evaluator = from_run_file(run_file)
        return replace(Problem.of(space, evaluator, run_file), files=files)
    settings = checked(Settings, config, name)
    problem = Problem.of(stored_space(attributes["space"]), as_evaluator(None), settings)
    return replace(problem, files=files, objectives=ObjectiveSet.stored(attributes["objective"]))
