"""The Python API: a search that runs by itself, or through ask and tell."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from langgraph.runtime import RunControl

from lm_searcher.agent.context import Context, Observer
from lm_searcher.agent.driven_run import open_context
from lm_searcher.agent.loop.ask_tell import ask, tell
from lm_searcher.agent.loop.driver import drive
from lm_searcher.agent.loop.signals import interrupts
from lm_searcher.agent.problem import Problem
from lm_searcher.agent.results.result import Result
from lm_searcher.agent.settings.build import as_evaluator, as_space, from_run_file, settings_of
from lm_searcher.agent.settings.run_file import Settings, load_run_file
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.storage import shown
from lm_searcher.agent.study.stored_run import has_run
from lm_searcher.spaces.errors import ConfigError, UserError
from lm_searcher.spaces.history import Trial
from lm_searcher.spaces.space import Choice, SearchSpace
from lm_searcher.tools.executors.protocol import Executor
from lm_searcher.tools.protocols import (
    AskingRanker,
    Evaluation,
    Evaluator,
    Metrics,
    SlowlyPreparedEvaluator,
)


class Search:
    """One search: a space, what measures an architecture, and settings.

    `space` is a SearchSpace, a built-in's name, a TOML file's path, or a dict of option lists.
    `evaluator` is an Evaluator, or a function of a configuration (and a budget) that returns
    the objective or a dict of metrics; None if only `ask` and `tell` are used. Keywords are the
    keys of a run file: ``ranker="tpe"``, ``trials=50``, ``workers=2``, ``name="mine"``, or
    sections: ``memory={"enabled": False}``. A function is assumed to be deterministic, as in a run
    file; say ``deterministic=False`` of one whose results vary with the seed, and the best
    architectures are confirmed with fresh seeds. Several objectives are a list of dicts
    (``objectives=[{"metric": "acc", "direction": "max"}, ...]``), constraints a list of text
    (``constraints=["params_m <= 1.0"]``). Raises UserError for what cannot work.

    Every trial is in the store the moment it has finished, and a Search of the same name goes
    on where the last one ended; ``store="memory"`` keeps nothing.
    """

    def __init__(
        self,
        space: SearchSpace | str | Path | Mapping[str, Sequence[Choice]],
        evaluator: Evaluator | Callable[..., Any] | str | None = None,
        *,
        observe: Observer = lambda event: None,
        deterministic: bool | None = None,
        **keywords: Any,
    ) -> None:
        settings = settings_of(keywords)
        measures = as_evaluator(evaluator, deterministic)
        self._setup(as_space(space), measures, settings, observe)
        self._has_evaluator = evaluator is not None

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        overrides: Mapping[str, Any] = {},
        observe: Observer = lambda event: None,
    ) -> Self:
        """The search of a run file; its name is the file's unless the file gives one."""
        run_file = load_run_file(path, overrides).named_after(path)
        space, evaluator = from_run_file(run_file)
        search = cls.__new__(cls)
        search._setup(space, evaluator, run_file, observe)
        return search

    def _setup(
        self, space: SearchSpace, evaluator: Evaluator, settings: Settings, observe: Observer
    ) -> None:
        self.problem = Problem.of(space, evaluator, settings)
        self.observe = observe
        self._has_evaluator = True
        self._resources = contextlib.ExitStack()
        self._context: Context | None = None
        self._prepared = False
        self._run_id = uuid.uuid4().hex
        """The run's id if it is new."""

    @property
    def settings(self) -> Settings:
        """The resolved settings."""
        return self.problem.settings

    @property
    def files(self) -> RunFiles:
        """Where the run keeps its files."""
        return self.problem.files

    # -- by itself -----------------------------------------------------------------------------

    def run(self, begun: Callable[[Sequence[Trial]], None] = lambda trials: None) -> Result:
        """Search until the budget is spent, confirm the best, and return the result.

        `begun` is called once, with the trials of earlier processes. Raises Interrupted (a
        KeyboardInterrupt) after Ctrl-C; StoreError, EvaluatorError.
        """
        if not self._has_evaluator:
            raise ConfigError("this Search has no evaluator: give one to run(), or ask and tell")
        mine = self._context is None
        self._prepare()
        try:
            executor = self._executor()
            with contextlib.closing(executor):
                context = self._open()
                context.executor, context.control = executor, RunControl()
                begun(context.store.trials)
                with interrupts(context, self.settings.executor.grace):
                    drive(context)
                return self.result()
        finally:
            if mine:
                self.close()

    def _prepare(self) -> None:
        """Find out that there is something to search, and that a model can be asked, before
        anything is written or trained."""
        _ = self.problem.proposer
        ranker = self.problem.ranker
        if isinstance(ranker, AskingRanker) and (self._context is None or not self._prepared):
            ranker.prepare()
            self._prepared = True

    def _executor(self) -> Executor:
        files, evaluator = self.files, self.problem.evaluator
        if self._context is None and files.kept and has_run(files.url, files.name):
            self._open()  # nobody else drives the run: before any place is touched
        if self._context is not None:
            self._run_id = self._context.store.id
        if isinstance(evaluator, SlowlyPreparedEvaluator) and evaluator.note:
            self.observe(evaluator.note)
        try:
            return self.problem.executor(self._run_id)
        except UserError:
            files.remove_empty()
            raise

    # -- ask and tell-- ------------------------------------------------------------------------

    def ask(self, n: int = 1) -> list[Evaluation]:
        """The next `n` architectures to measure, fewer if the space has no more.

        They are what `run` would evaluate next, users' requests included. Each is a running
        trial from now on; several may be pending. `key` is its number.
        """
        if n < 1:
            raise ConfigError(f"ask({n}): accepted: integers from 1")
        self._prepare()
        return ask(self._open(), n)

    def tell(
        self,
        trial: Evaluation | int,
        value: float | Metrics | None = None,
        *,
        failed: str | None = None,
        seconds: float = 0.0,
    ) -> Trial:
        """Store the result of an asked trial: its objective, its metrics, or why it failed.

        Raises ConfigError for a trial that is not pending.
        """
        number = trial if isinstance(trial, int) else trial.key
        return tell(self._open(), number, value, failed, seconds)

    def result(self) -> Result:
        """What has been found so far."""
        context = self._open()
        store, stop = context.store, context.records.stop
        return Result(
            self.files.name,
            shown(self.files.url),
            context.space,
            "finished" if stop else "running",
            stop,
            context.objectives,
            list(store.trials),
            store.attributes,
        )

    # -- resources -----------------------------------------------------------------------------

    def _open(self) -> Context:
        if self._context is None:
            try:
                self._context = self._resources.enter_context(
                    open_context(self.problem, self.observe, self._run_id)
                )
            except BaseException:
                self.close()
                raise
        return self._context

    def close(self) -> None:
        """Let go of the run; another process may drive it then."""
        self._context = None
        self._resources.close()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
