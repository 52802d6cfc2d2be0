"""The problem: what is searched, measured and by which means, made from settings.

Everything about a search but its store and its process; making one writes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from lm_searcher.agent.loop.confirmation import Confirm
from lm_searcher.agent.loop.requests import Requests
from lm_searcher.agent.loop.selection import Selector
from lm_searcher.agent.settings.build import check_fidelity, make_proposer, objective_set_of
from lm_searcher.agent.settings.run_file import RunFile, Settings
from lm_searcher.agent.study.identity import identity_of
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.records import Identity
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.evaluators.derived import with_derived
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.executors.protocol import Executor, Site
from lm_searcher.tools.proposer import Proposer
from lm_searcher.tools.protocols import Evaluator, Ranker
from lm_searcher.tools.rankers import make_ranker


@dataclass(frozen=True)
class Problem:
    """A space, its evaluator and the settings, with what follows from them."""

    space: SearchSpace
    evaluator: Evaluator
    settings: Settings
    objectives: ObjectiveSet
    ranker: Ranker
    files: RunFiles

    @classmethod
    def of(cls, space: SearchSpace, evaluator: Evaluator, settings: Settings) -> Self:
        """Raises UserError for settings that do not fit the space or the evaluator."""
        objectives = objective_set_of(settings, evaluator)
        check_fidelity(evaluator, settings)
        section, executor = settings.ranker, settings.executor
        objective = objectives.objective(executor.picks or 1)
        ranker = make_ranker(section.name, space, section.settings, objective)
        name = settings.run.name or time.strftime("search-%Y%m%d-%H%M%S")
        files = RunFiles.of(name, settings.run.folder, settings.store.url)
        return cls(space, evaluator, settings, objectives, ranker, files)

    @property
    def batch(self) -> int | None:
        """Trials picked at a time; None: as many as there are free places."""
        return self.settings.executor.picks

    @cached_property
    def proposer(self) -> Proposer:
        """Draws the pools. Raises ConfigError if constraints leave nothing to draw."""
        return make_proposer(self.space, self.evaluator, self.objectives, self.settings.ranker.pool)

    @property
    def identity(self) -> Identity:
        """What makes two processes' trials comparable."""
        return identity_of(self.space, self.objectives, self.evaluator, self.settings.run.seed)

    @property
    def confirm(self) -> Confirm:
        """How finalists are confirmed: by default not at all, where trainings are deterministic
        and already at full fidelity."""
        return self.settings.confirm.for_evaluator(self.evaluator.deterministic)

    @property
    def epochs(self) -> int | None:
        """Reports of a trial at full fidelity, where they are known."""
        evaluator = self.evaluator
        return evaluator.recipe.epochs if isinstance(evaluator, TrainEvaluator) else None

    def selector(self, requests: Requests) -> Selector:
        """What chooses the problem's trials."""
        return Selector(**self.selection(requests))

    def selection(self, requests: Requests) -> dict[str, Any]:
        """The fields of a Selector."""
        return {
            "space": self.space,
            "objectives": self.objectives,
            "ranker": self.ranker,
            "proposer": self.proposer,
            "requests": requests,
            "memory": self.settings.memory,
            "seed": self.settings.run.seed,
            "initial": self.settings.ranker.initial,
            "batch": self.batch,
        }

    def executor(self, run_id: str) -> Executor:
        """What runs the evaluations of the run with that id.

        Raises UserError if the evaluator cannot be prepared.
        """
        measured = with_derived(self.evaluator, self.objectives.metric, self.objectives.metrics)
        log = self.files.log if self.files.kept else None
        described = isinstance(self.settings, RunFile)
        site = Site(run_id, self.files.name, self.files.url, log, described)
        return self.settings.executor.make(measured, site)
