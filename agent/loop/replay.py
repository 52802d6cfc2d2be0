"""Replay: recompute every decision of a run from its log.

A decision follows from the run's seed, the number of its first trial and the events before it. So
the log alone gives the same picks, prunes and widenings again, in the order in which trials really
ended. A difference means that the code, a package, a table or the log has changed since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lm_searcher.agent.loop.memory import Findings, remembered
from lm_searcher.agent.loop.requests import Requests
from lm_searcher.agent.loop.selection import Selector
from lm_searcher.agent.loop.stored_problem import stored_problem
from lm_searcher.agent.study.events import Ask, End, Event, Migrated, Recorded
from lm_searcher.agent.study.history_arrays import HistoryArrays
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.records import CONFIG, WEIGHED, RunRecords, is_request
from lm_searcher.agent.study.stored_run import StoredRun
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.tools.protocols import AskingRanker


@dataclass(frozen=True)
class Difference:
    """The first decision that came out differently."""

    trial: int
    """The number of the trial that came next."""
    what: str
    """`picks` or `memory`."""
    logged: list[str]
    recomputed: list[str]

    def __str__(self) -> str:
        was, now = (", ".join(each) or "none" for each in (self.logged, self.recomputed))
        return f"trial {self.trial}: {self.what} differ: {was} in the log, {now} recomputed"


@dataclass(frozen=True)
class Replayed:
    """What a replay found."""

    decisions: int = 0
    """Decisions that were recomputed: picks, and looks of memory at the evidence."""
    skipped: int = 0
    """Decisions that cannot be recomputed: a language model's, and those before a migration."""
    difference: Difference | None = None


def replay(files: RunFiles, run: StoredRun, events: Iterable[Event]) -> Replayed:
    """Recompute the decisions of a run, up to the first that differs.

    `events` are all that the run has logged. Raises UserError if its settings no longer work.
    """
    return _Replay(files, run).run(events)


@dataclass
class _Replay:
    files: RunFiles
    stored: StoredRun
    selector: Selector = field(init=False)
    findings: Findings = field(init=False)
    arrays: HistoryArrays = field(init=False)
    logged: dict[str, Any] = field(default_factory=dict)
    """Records so far, by key."""
    memory: list[str] = field(default_factory=list)
    """Memory's decisions since it last weighed the evidence."""
    found: Replayed = Replayed()

    def __post_init__(self) -> None:
        problem = stored_problem(self.files, self.stored.attributes)
        self.selector = problem.selector(Requests(problem.space))
        self.findings = remembered(problem.space, [])
        self.arrays = HistoryArrays(problem.space, problem.objectives)

    def run(self, events: Iterable[Event]) -> Replayed:
        for event in events:
            if isinstance(event, Ask):
                self._ask(event)
            elif isinstance(event, End):
                self.arrays.update(self.stored.trials[event.trial])
            elif isinstance(event, Recorded):
                self._recorded(event)
            elif isinstance(event, Migrated):
                self._migrated(event)
            if self.found.difference is not None:
                break
        return self.found

    def _ask(self, ask: Ask) -> None:
        """The picks, unless a language model made them."""
        selector = self.selector
        history = self.arrays.history(None, selector.weights(ask.first))
        proposal = selector.propose(history, self.findings)
        self.findings = proposal.findings
        if isinstance(selector.ranker, AskingRanker):
            self.found = replace(self.found, skipped=self.found.skipped + 1)
        else:
            picks = selector.select(proposal.pool, history, proposal.requested, ask.n).picks
            self._compare(ask.first, "picks", list(ask.ncodes), picks)
        for number, ncode in enumerate(ask.ncodes, start=ask.first):
            self.arrays.extend([Trial(number, ncode, TrialState.RUNNING)])

    def _recorded(self, event: Recorded) -> None:
        """A request is taken as it is; memory's decisions are recomputed once all are read."""
        self.logged[event.key] = event.record
        if is_request(event.key):
            read = RunRecords.of({event.key: event.record}).requests()
            self.selector.requests.records.update(read)
        elif event.key.startswith("memory:"):
            self.memory.append(_decision(event.record))
        elif event.key == WEIGHED:
            self._weighed()
        elif event.key == CONFIG:  # a process with other settings drives the run from here on
            attributes = {**self.stored.attributes, CONFIG: event.record}
            problem = stored_problem(self.files, attributes)
            self.selector = problem.selector(self.selector.requests)

    def _weighed(self) -> None:
        history = self.arrays.history(None, None)
        self.findings, decisions = self.selector.revise(history, self.findings)
        now = [_decision(decision.document) for decision in decisions]
        self._compare(len(history), "memory", self.memory, now)
        self.memory = []

    def _migrated(self, event: Migrated) -> None:
        """Trials of an earlier format: their order of completion is not known."""
        self.arrays.extend(self.stored.trials[: event.trials])
        before = RunRecords.of(self.logged)
        self.findings = remembered(self.selector.space, before.settled(), before.weighed)
        self.memory = []
        self.found = Replayed(skipped=event.trials)

    def _compare(self, trial: int, what: str, logged: list[str], now: list[str]) -> None:
        difference = Difference(trial, what, logged, now) if logged != now else None
        self.found = replace(self.found, decisions=self.found.decisions + 1, difference=difference)


def _decision(record: Mapping[str, Any]) -> str:
    return f"{record['action']} {record['position']} = {record.get('choice', record['option'])}"
