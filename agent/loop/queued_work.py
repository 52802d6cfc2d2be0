"""How a worker of the queue evaluates the trials of a run, from what the run has stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, select

from lm_searcher.agent.settings.build import from_run_file, objective_set_of
from lm_searcher.agent.settings.run_file import RunFile
from lm_searcher.agent.study.identity import check_same, identity_of
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.records import CONFIG
from lm_searcher.agent.study.run_rows import read_attributes
from lm_searcher.agent.study.tables import RUN
from lm_searcher.spaces.errors import StoreError
from lm_searcher.spaces.settings import checked
from lm_searcher.tools.evaluators.derived import with_derived
from lm_searcher.tools.executors.queue.loaded import Work


def work_of(connection: Connection, run: str) -> Callable[[], Work]:
    """Reads the settings of the run with that id; what it returns makes the work.

    Both raise UserError: for a run that is not there, or whose evaluator cannot be made here as
    it is in the controller.
    """
    row = connection.execute(select(RUN).where(RUN.c.id == run)).first()
    if row is None:
        raise StoreError(f"the store has no run with the id '{run}'")
    attributes, name = read_attributes(connection, row), row.name
    return lambda: _made(name, attributes)


def _made(name: str, attributes: Mapping[str, Any]) -> Work:
    settings = checked(RunFile, attributes.get(CONFIG, {}), f"run '{name}'")
    space, evaluator = from_run_file(settings)
    objectives = objective_set_of(settings, evaluator)
    files = RunFiles.of(name, settings.run.folder, settings.store.url)
    check_same(files, attributes, identity_of(space, objectives, evaluator, settings.run.seed))
    section = settings.executor
    return Work(
        name,
        with_derived(evaluator, objectives.metric, objectives.metrics),
        section.seconds,
        int(section.memory_gb * 2**30) if section.memory_gb else None,
    )
