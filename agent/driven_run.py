"""The context of a stored run, for the process that drives it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lm_searcher.agent.context import Context, Observer
from lm_searcher.agent.loop.memory import remembered
from lm_searcher.agent.loop.requests import Requests
from lm_searcher.agent.problem import Problem
from lm_searcher.agent.study.opening import opened
from lm_searcher.agent.study.pruners import make_pruner
from lm_searcher.agent.study.run_records import RunRecords
from lm_searcher.agent.study.storage import shown


@contextlib.contextmanager
def open_context(problem: Problem, observe: Observer, run_id: str) -> Iterator[Context]:
    """The context of a problem's run, which this process alone drives meanwhile.

    `run_id` becomes the run's if it is new.

    Raises StoreError if another process drives the run, or if it is of something else.
    """
    settings, files = problem.settings, problem.files
    config = settings.model_dump(mode="json")
    config["store"]["url"] = shown(files.url)
    with opened(
        files,
        problem.space,
        problem.objectives,
        problem.identity,
        make_pruner(settings.pruner),
        config,
        run_id=run_id,
    ) as store:
        records = RunRecords.of(store.attributes)
        feasibility = problem.proposer.feasibility
        yield Context(
            **problem.selection(Requests.of(files, problem.space, records.requests(), feasibility)),
            store=store,
            ranker_name=settings.ranker.name,
            findings=remembered(problem.space, records.settled(len(store)), records.weighed),
            budget=settings.budget,
            confirm=problem.confirm,
            epochs=problem.epochs,
            observe=observe,
            asynchronous=not settings.executor.awaits_batch,
        )
