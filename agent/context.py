"""The context: what a run's nodes work with, fixed for the life of a process."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from langgraph.runtime import RunControl

from lm_searcher.agent.loop.confirmation import Confirm
from lm_searcher.agent.loop.memory import Findings
from lm_searcher.agent.loop.selection import STAGES, Selector
from lm_searcher.agent.loop.stopping import Budget
from lm_searcher.agent.study.records import FULL, WEIGHED, Weighed, memory_key
from lm_searcher.agent.study.run_records import RunRecords
from lm_searcher.agent.study.stop import Stop
from lm_searcher.agent.study.trial_store import TrialStore
from lm_searcher.spaces.errors import EvaluatorError, unknown
from lm_searcher.spaces.history import History, Trial
from lm_searcher.spaces.ncode import NCode
from lm_searcher.spaces.usage import Usage
from lm_searcher.tools.executors.protocol import Event, Executor, NotingExecutor
from lm_searcher.tools.protocols import AskingRanker, Evaluation, Outcome

if TYPE_CHECKING:
    from lm_searcher.agent.loop.confirmation_runs import Task

AHEAD = 16
"""With so many places, one pick waits beside them, with twice as many two: where places become free
one after the other all the time, none waits for a decision. Each pick then knows a sixteenth of the
running trials less than it might."""

Observer = Callable[[Trial | str], None]
"""Called with each trial when it starts, is known to be at a place, has finished or has lost its
place, and with other news as text."""


@dataclass(kw_only=True)
class Context(Selector):
    """A selector with the run's store, executor and limits."""

    store: TrialStore
    ranker_name: str
    findings: Findings
    """Memory's findings; always what the stored decisions add up to."""
    executor: Executor | None = None
    """None for ask and tell."""
    budget: Budget = field(default_factory=Budget)
    confirm: Confirm = field(default_factory=Confirm)
    epochs: int | None = None
    """Reports of an evaluation at full fidelity, where they are known."""
    observe: Observer = lambda event: None
    forgiven: int = 0
    """Trials before the run was begun again after a stop by failures: those no longer count."""
    asynchronous: bool = True
    """Whether a place that becomes free gets its next trial at once; else trials are picked, and
    awaited, a batch at a time."""
    control: RunControl = field(default_factory=RunControl)
    """Drained by Ctrl-C: nothing more is started."""
    under_way: dict[int, int] = field(default_factory=dict)
    """The evaluations that the executor has, by key, with the last step that each reported."""
    confirmations: dict[int, Task] | None = None
    """What is left to confirm, by key; None before the search has ended."""

    def __post_init__(self) -> None:
        stored = self.records.seconds
        spent = sum(trial.seconds or 0.0 for trial in self.store.trials)
        if stored is not None:  # a killed process may not have stored its time: count its trials
            spent = max(stored, spent / (self.batch or 1))
        self._began = time.monotonic() - spent
        if isinstance(self.ranker, AskingRanker):
            self.ranker.spent = Usage.total(trial.usage for trial in self.store.trials)

    @property
    def records(self) -> RunRecords:
        """The run's records, as stored now."""
        return RunRecords.of(self.store.attributes)

    @property
    def seconds(self) -> float:
        """Wall-clock time spent in the loop, over all processes of the run."""
        return time.monotonic() - self._began

    def note(self, text: str) -> None:
        """See Selector."""
        self.observe(text)

    @contextlib.contextmanager
    def streaming(self, stream: Observer) -> Iterator[None]:
        """Within the context, what the observer is told goes to `stream` too."""
        observe = self.observe

        def tell(event: Trial | str) -> None:
            observe(event)
            stream(event)

        self.observe = tell
        try:
            yield
        finally:
            self.observe = observe

    # -- places ------------------------------------------------------------------------------

    @property
    def left(self) -> int:
        """Trials that the budget allows to begin."""
        most = self.budget.trials
        return sys.maxsize if most is None else max(0, most - len(self.store))

    def room(self) -> int:
        """Evaluations that the executor can begin now."""
        return self.executor.room() if self.executor is not None else 0

    def wanted(self, stop: Stop | None) -> int:
        """How many picks to make now: one for each place that no waiting trial takes, and a few
        ahead, or a batch when no trial is pending; after the end of the search, the extra requests
        of users only."""
        if self.asynchronous:
            room = self.room()
            ahead = (room + len(self.under_way)) // AHEAD
            most = max(0, room + ahead - len(self.store.waiting))
        else:
            most = 0 if self.store.pending else self.batch or self.room()
        if stop is None:
            return min(most, self.left)
        return 0 if stop.failed else min(most, self.requests.extra(len(self.store)))

    def begin(self, evaluation: Evaluation, attempt: int) -> None:
        """Hand an evaluation to the executor."""
        assert self.executor is not None
        self.executor.submit(evaluation, attempt)
        self.under_way[evaluation.key] = 0

    def poll(self, timeout: float) -> list[Event]:
        """What became of evaluations; what the executor says of its places is told."""
        assert self.executor is not None
        events = self.executor.poll(timeout)
        if isinstance(self.executor, NotingExecutor):
            while self.executor.notes:
                self.note(self.executor.notes.pop(0))
        return events

    @property
    def unconfirmed(self) -> bool:
        """Whether finalists are still to be confirmed."""
        return bool(self.confirmations)

    # -- the history and memory --------------------------------------------------------------

    def history(self, number: int) -> History:
        """The trials below `number` as the ranker sees them when it picks trial `number`: of
        several objectives one score, with weights drawn for this step."""
        return self.store.history(number, self.weights(number))

    def take_up(self, history: History, most: int) -> None:
        """Record the requests that wait, before the trial after `history` is picked."""
        self.requests.take_up(history, self.findings, most, self.store.write)

    def weigh(self, history: History) -> None:
        """Let memory weigh the evidence; store its decisions."""
        findings, decisions = self.revise(history, self.findings)
        if findings.weighed != self.findings.weighed:
            with self.store.tick():
                for place, decision in enumerate(decisions):
                    self.store.write(memory_key(decision.trial, place), decision)
                self.store.write(WEIGHED, Weighed(trials=findings.weighed))
        self.findings = findings

    def keep_time(self) -> None:
        """Store the time spent, where the budget has a limit on it."""
        if self.budget.hours is not None:
            self.store.set_attribute("seconds", round(self.seconds, 3))

    def begin_confirmations(self) -> None:
        """Store at which fidelity the finalists are confirmed, where it is not the trials' own."""
        full = dict(self.confirm.full)
        if self.confirm.top and self.records.full != full:
            self.store.set_attribute(FULL, full)

    # -- trials --------------------------------------------------------------------------------

    def trial_seed(self, number: int, repeat: int | None = None) -> int:
        """The seed of a trial's training, or of its `repeat`-th confirmation."""
        parts = [self.seed, number, STAGES["trial"]]
        if repeat is not None:
            parts = [self.seed, number, STAGES["confirm"], repeat]
        return int(np.random.SeedSequence(parts).generate_state(1)[0] >> 1)

    def evaluation(self, key: int, ncode: NCode, seed: int) -> Evaluation:
        """What an evaluator gets of an architecture."""
        return Evaluation(key, ncode, self.space.decode(ncode), seed)

    def fidelity(self, outcome: Outcome, steps: int) -> float:
        """The share of the full budget behind an outcome."""
        return steps / self.epochs if outcome.stopped and self.epochs else 1.0

    def finish(self, number: int, outcome: Outcome, fidelity: float = 1.0) -> Trial:
        """Store what became of a trial.

        Raises EvaluatorError if no trial has given the metrics of the objectives yet and this
        one, which did not fail, does not either: then none will.
        """
        missing = self.objectives.missing(outcome)
        if missing and not any(trial.value is not None for trial in self.store.trials):
            raise EvaluatorError(
                f"trial {number}: the evaluator returned no '{missing[0]}'; "
                + unknown("metric", missing[0], outcome.metrics)
                + ". Correct the metric, and give the run another --name"
            )
        return self.store.finish(number, outcome, fidelity)
