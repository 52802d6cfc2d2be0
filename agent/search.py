"""The Python API: a search that runs by itself, or is asked and told."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import re
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from langchain_core.runnables import RunnableConfig
from langgraph.types import Durability

from lm_searcher.agent.graph import build_graph
from lm_searcher.agent.loop.memory import Findings, Memory
from lm_searcher.agent.loop.requests import Requests
from lm_searcher.agent.loop.selection import draw, pick, weigh
from lm_searcher.agent.loop.signals import interrupts
from lm_searcher.agent.loop.stopping import FAILURES, Interrupted, stop_reason
from lm_searcher.agent.results.result import Result, read_run
from lm_searcher.agent.results.stored_space import describe_space, stored_subspace
from lm_searcher.agent.settings.build import (
    as_evaluator,
    as_space,
    check_fidelity,
    from_run_file,
    make_proposer,
    objective_set_of,
    settings_of,
)
from lm_searcher.agent.settings.run_file import RunFile, Settings, load_run_file
from lm_searcher.agent.state import Budget, Confirm, Context, Observer, State
from lm_searcher.agent.study.paths import RunFiles, checkpointer, run_lock
from lm_searcher.agent.study.pruners import make_pruner
from lm_searcher.agent.study.trial_store import TrialStore, has_run, shown
from lm_searcher.spaces.errors import ConfigError, StoreError, TrialFailure, UserError
from lm_searcher.spaces.history import Trial
from lm_searcher.spaces.space import Choice, SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.spaces.usage import Usage
from lm_searcher.tools.evaluators.training.evaluator import TrainEvaluator
from lm_searcher.tools.executors.local import make_executor
from lm_searcher.tools.executors.worker import checked
from lm_searcher.tools.proposer import Proposer
from lm_searcher.tools.protocols import (
    AskingRanker,
    Cancelled,
    Evaluation,
    Evaluator,
    Executor,
    Metrics,
    Outcome,
    SlowlyPreparedEvaluator,
)
from lm_searcher.tools.rankers import make_ranker

PACKAGES = ("lm-searcher", "langgraph", "optuna", "numpy", "torch")


class Search:
    """One search: a space, what measures an architecture, and settings.

    `space` is a SearchSpace, a built-in's name, a TOML file's path, or a dict of option lists.
    `evaluator` is an Evaluator, or a function of a configuration (and a budget) that returns
    the objective or a dict of metrics; None if only `ask` and `tell` are used. Keywords are the
    keys of a run file: ``ranker="tpe"``, ``trials=50``, ``workers=2``, ``name="mine"``, or
    sections: ``memory={"enabled": False}``. Several objectives are a list of dicts
    (``objectives=[{"metric": "acc", "direction": "max"}, ...]``), constraints a list of text
    (``constraints=["params_m <= 1.0"]``). Raises UserError for what cannot work.

    Every trial is in the store the moment it has finished, and a Search of the same name goes
    on where the last one ended; ``store="memory"`` keeps nothing.
    """

    durability: Durability = "sync"
    """Each checkpoint is written before the next node starts, so after a crash no node that has
    acted on the store is unknown to the graph. evals/overhead.py measures what it costs."""

    def __init__(
        self,
        space: SearchSpace | str | Path | Mapping[str, Sequence[Choice]],
        evaluator: Evaluator | Callable[..., Any] | str | None = None,
        *,
        observe: Observer = lambda event: None,
        **keywords: Any,
    ) -> None:
        settings = settings_of(keywords)
        self._setup(as_space(space), as_evaluator(evaluator), settings, observe)
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
        run_file: RunFile = load_run_file(path, overrides)
        if run_file.run.name is None:
            name = re.sub(r"[^A-Za-z0-9._-]", "-", Path(path).stem).lstrip("._-")[:100]
            named = run_file.run.model_copy(update={"name": name or "run"})
            run_file = run_file.model_copy(update={"run": named})
        space, evaluator = from_run_file(run_file)
        search = cls.__new__(cls)
        search._setup(space, evaluator, run_file, observe)
        return search

    def _setup(
        self, space: SearchSpace, evaluator: Evaluator, settings: Settings, observe: Observer
    ) -> None:
        self.space, self.evaluator, self.settings = space, evaluator, settings
        self.observe = observe
        self.objectives = objective_set_of(settings, evaluator)
        self.metric, self.direction = self.objectives.metric, self.objectives.direction
        check_fidelity(evaluator, settings)
        section, executor = settings.ranker, settings.executor
        self.batch = executor.batch or executor.workers
        objective = self.objectives.objective(self.batch)
        self.ranker = make_ranker(section.name, space, section.settings, objective)
        name = settings.run.name or time.strftime("search-%Y%m%d-%H%M%S")
        self.files = RunFiles.of(name, settings.run.folder, settings.store.url)
        self._has_evaluator = True
        self._findings = Findings(Subspace.full(space), [])
        self._resources = contextlib.ExitStack()
        self._context: Context | None = None
        self._prepared = False
        self._proposer: Proposer | None = None

    # -- by itself -----------------------------------------------------------------------------

    def run(self, begun: Callable[[Sequence[Trial]], None] = lambda trials: None) -> Result:
        """Search until the budget is spent, confirm the best, and say what was found.

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
                context.executor = executor
                begun(context.store.trials)
                with interrupts(context, self.settings.executor.grace):
                    self._loop(context)
                return self.result()
        finally:
            if mine:
                self.close()

    def _prepare(self) -> None:
        """Find out that there is something to search, and that a model can be asked, before
        anything is written or trained."""
        _ = self.proposer
        if isinstance(self.ranker, AskingRanker) and (self._context is None or not self._prepared):
            self.ranker.prepare()
            self._prepared = True

    @property
    def proposer(self) -> Proposer:
        """What draws the pools. Raises ConfigError if constraints leave nothing to draw."""
        if self._proposer is None:
            self._proposer = make_proposer(
                self.space, self.evaluator, self.objectives, self.settings.ranker.pool
            )
        return self._proposer

    def _executor(self) -> Executor:
        if self._context is None and self.files.kept and has_run(self.files.url, self.files.name):
            self._check_same(read_run(self.files).attributes)  # before the workers start
        section = self.settings.executor
        if isinstance(self.evaluator, SlowlyPreparedEvaluator) and self.evaluator.note:
            self.observe(self.evaluator.note)
        try:
            return make_executor(
                self.evaluator,
                section.workers,
                section.seconds,
                int(section.memory_gb * 2**30) if section.memory_gb else None,
                section.devices,
                self.files.log if self.files.kept else None,
            )
        except UserError:
            self.files.remove_empty()
            raise

    def _loop(self, context: Context) -> None:
        config: RunnableConfig = {
            "configurable": {"thread_id": context.store.attributes["id"]},
            "recursion_limit": 2**31 - 1,  # the budget bounds the loop
        }
        attributes = context.store.attributes
        if FAILURES in attributes.get("stop", ""):  # begun again: whatever it was may be mended
            context.store.set_attribute("forgiven", len(context.store))
        context.forgiven = context.store.attributes.get("forgiven", 0)
        context.store.set_attribute("stop", "")
        with checkpointer(self.files) as saver:
            graph = build_graph().compile(checkpointer=saver)
            options: dict[str, Any] = {"durability": self.durability} if saver else {}
            snapshot = graph.get_state(config) if saver else None
            start: State | None = None  # cut short: go on at the node that was not finished
            # The confirmation starts anew, so that a larger budget is searched before it.
            if snapshot is None or snapshot.next in ((), ("confirm",)):
                start = self._state(context, snapshot.values if snapshot else {})
            try:
                final = graph.invoke(start, config, context=context, **options)
            except Cancelled:
                context.store.put_back()
                raise Interrupted from None
        context.store.set_attribute("stop", final["stop"])

    def _state(self, context: Context, ended: Mapping[str, Any]) -> State:
        """Where the loop begins: at the start, after an end, or wherever the store is."""
        store = context.store
        unfinished = (t.number for t in store.trials if not t.state.finished)
        number = next(unfinished, len(store))
        subspace, pruned = stored_subspace(self.space, store.attributes)
        seconds = ended.get("seconds", sum(t.seconds or 0.0 for t in store.trials))
        return State(
            number=number,
            pool=b"",
            picks=[],
            allowed=list(subspace.allowed),
            pruned=pruned,
            account={},
            weighed=store.attributes.get("weighed", 0),
            seconds=seconds,
            stop=stop_reason(context, store.history(number), seconds),
        )

    # -- asked and told ------------------------------------------------------------------------

    def ask(self, n: int = 1) -> list[Evaluation]:
        """The next `n` architectures to measure, fewer if the space has no more.

        Each is a running trial from now on; several may be pending. `number` names it.
        """
        if n < 1:
            raise ConfigError(f"ask({n}): accepted: integers from 1")
        self._prepare()
        context = self._open()
        number = len(context.store)
        history = context.history(number)
        pool = draw(context, history, self._findings.subspace, number)
        if not len(pool):
            return []
        asked = []
        picks, account = pick(context, pool, history, n)
        for i, ncode in enumerate(picks, start=number):
            seed = context.trial_seed(i)
            trial = context.store.start(i, ncode, seed, context.ranker_name, account)
            context.observe(trial)
            account = {}  # of a batch, the first trial has it
            asked.append(context.evaluation(i, ncode, seed))
        return asked

    def tell(
        self,
        trial: Evaluation | int,
        value: float | Metrics | None = None,
        *,
        failed: str | None = None,
        seconds: float = 0.0,
    ) -> Trial:
        """What became of an asked trial: its objective, its metrics, or why it failed.

        Raises ConfigError for a trial that was not asked or has been told.
        """
        context = self._open()
        number = trial if isinstance(trial, int) else trial.key
        if not 0 <= number < len(context.store) or context.store.trials[number].state.finished:
            raise ConfigError(f"trial {number} is not pending: ask first, and tell once")
        if failed is None:
            try:
                outcome = Outcome(checked(value, self.metric), seconds)
            except TrialFailure as failure:
                outcome = Outcome({}, seconds, str(failure))
        else:
            outcome = Outcome({}, seconds, failed)
        told = context.store.finish(number, outcome)
        context.observe(told)
        self._findings = weigh(context, context.store.history(), self._findings)
        return told

    def result(self) -> Result:
        """What has been found so far."""
        store = self._open().store
        stop = store.attributes.get("stop", "")
        return Result(
            self.files.name,
            shown(self.files.url),
            self.space,
            "finished" if stop else "running",
            stop,
            self.objectives,
            list(store.trials),
            store.attributes,
        )

    # -- resources -----------------------------------------------------------------------------

    def _open(self) -> Context:
        if self._context is None:
            try:
                self._context = self._opened()
            except BaseException:
                self.close()
                raise
        return self._context

    def _opened(self) -> Context:
        settings = self.settings
        self._resources.enter_context(run_lock(self.files))
        store = TrialStore(
            self.files.url,
            self.files.name,
            self.space,
            self.objectives,
            make_pruner(settings.pruner),
        )
        self._resources.callback(store.close)
        if "id" not in store.attributes:
            if store.begun:
                raise StoreError(
                    f"store '{shown(self.files.url)}': study '{self.files.name}' holds trials of "
                    "another program; choose another --name"
                )
            for key, value in self._identity().items():
                store.set_attribute(key, value)
            store.set_attribute("id", uuid.uuid4().hex)  # last: a run is begun once it has one
        self._check_same(store.attributes)
        store.load()
        store.put_back()
        config = settings.model_dump(mode="json")
        config["store"]["url"] = shown(self.files.url)
        store.set_attribute("config", config)
        store.set_attribute("versions", versions())
        weighed = store.attributes.get("weighed", 0)
        self._findings = Findings(*stored_subspace(self.space, store.attributes), weighed)
        return self._make_context(store)

    def _make_context(self, store: TrialStore) -> Context:
        settings, evaluator = self.settings, self.evaluator
        if isinstance(self.ranker, AskingRanker):
            self.ranker.spent = Usage.total(trial.account for trial in store.trials)
        proposer = self.proposer
        top = settings.confirm.top
        if top is None:
            top = 0 if evaluator.deterministic and not settings.confirm.full else 3
        return Context(
            space=self.space,
            store=store,
            ranker=self.ranker,
            ranker_name=settings.ranker.name,
            proposer=proposer,
            seed=settings.run.seed,
            initial=settings.ranker.initial,
            batch=self.batch,
            budget=Budget(**settings.budget.model_dump()),
            memory=Memory(**settings.memory.model_dump()),
            confirm=Confirm(top, settings.confirm.seeds, settings.confirm.full),
            epochs=evaluator.recipe.epochs if isinstance(evaluator, TrainEvaluator) else None,
            observe=self.observe,
            requests=Requests.of(self.files, self.space, store.attributes, proposer.known),
        )

    def _identity(self) -> dict[str, Any]:
        """What makes two processes' trials comparable."""
        return {
            "space": describe_space(self.space),
            "objective": self.objectives.to_json(),
            "evaluator": self.evaluator.identity(),
            "seed": self.settings.run.seed,
        }

    def _check_same(self, stored: Mapping[str, Any]) -> None:
        """Raises StoreError, naming the difference, if the stored run is of something else."""
        for key, now in self._identity().items():
            before = stored.get(key)
            if before == now:
                continue
            key, before, now = _difference(key, before, now)
            raise StoreError(
                f"run '{self.files.name}' in store '{shown(self.files.url)}' has another {key}: "
                f"{_short(before)} there, {_short(now)} here; choose another --name"
            )

    def close(self) -> None:
        """Let go of the run; another process may drive it then."""
        self._context = None
        self._resources.close()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _difference(key: str, before: object, now: object) -> tuple[str, object, object]:
    """Where two plain documents first differ, and what is there."""
    if isinstance(before, dict) and isinstance(now, dict):
        k = next(k for k in {**before, **now} if before.get(k) != now.get(k))
        return _difference(f"{key} {k}", before.get(k), now.get(k))
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        i = next(i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a != b)
        return (f"{key}[{i}]", before[i], now[i])
    return key, before, now


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def versions() -> dict[str, str]:
    """What the run was made with: Python, the packages that matter, and the git commit."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
        )
        found["git"] = head.stdout.strip()
    return found
