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
from lm_searcher.agent.loop.stored_problem import check_evaluator_known, stored_problem
from lm_searcher.agent.problem import Problem
from lm_searcher.agent.study.events import Ask, End, Event, Migrated, Recorded
from lm_searcher.agent.study.history_arrays import HistoryArrays
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.records import CONFIG, WEIGHED, is_request
from lm_searcher.agent.study.run_records import RunRecords
from lm_searcher.agent.study.stored_run import StoredRun
from lm_searcher.spaces.errors import StoreError
from lm_searcher.spaces.history import Trial
from lm_searcher.spaces.settings import checked
from lm_searcher.tools.protocols import AskingRanker


@dataclass(frozen=True)
class Difference:
    """The first decision that came out differently."""

    trial: int
    """The number of the trial that came next."""
    what: str
    """`picks` or `memory`; `trials` where the log and the trials tell different picks."""
    logged: list[str]
    recomputed: list[str]

    def __str__(self) -> str:
        was, now = (", ".join(each) or "none" for each in (self.logged, self.recomputed))
        where = "among the trials" if self.what == "trials" else "recomputed"
        return f"trial {self.trial}: {self.what} differ: {was} in the log, {now} {where}"


@dataclass(frozen=True)
class Replayed:
    """What a replay found."""

    decisions: int = 0
    """Decisions that were recomputed: picks, and looks of memory at the evidence."""
    skipped: int = 0
    """Decisions that cannot be recomputed: a language model's, and those before a migration."""
    difference: Difference | None = None


def replay(
    files: RunFiles, run: StoredRun, events: Iterable[Event], problem: Problem | None = None
) -> Replayed:
    """Recompute the decisions of a run, up to the first that differs.

    `events` are all that the run has logged, read before `run` if a process drives it. `problem`
    is that of a program with an evaluator of its own; else it is made from what is stored. Raises
    UserError if the settings no longer work, StoreError for a log that cannot be followed.
    """
    if problem is None:
        check_evaluator_known(files, run.attributes)
    return _Replay(files, run, problem).run(list(events))


@dataclass
class _Replay:
    files: RunFiles
    stored: StoredRun
    problem: Problem | None
    selector: Selector = field(init=False)
    findings: Findings = field(init=False)
    arrays: HistoryArrays = field(init=False)
    config: Any = None
    """The settings that the selector was made from."""
    logged: dict[str, Any] = field(default_factory=dict)
    """Records so far, by key."""
    memory: list[str] = field(default_factory=list)
    """Memory's decisions since it last weighed the evidence."""
    found: Replayed = Replayed()

    def run(self, events: list[Event]) -> Replayed:
        configs = (e.record for e in events if isinstance(e, Recorded) and e.key == CONFIG)
        problem = self._configure(next(configs, self.stored.attributes.get(CONFIG, {})))
        self.selector = problem.selector(Requests(problem.space))
        self.findings = remembered(problem.space, [])
        self.arrays = HistoryArrays(problem.space, problem.objectives)
        for event in self._since_migration(events):
            if isinstance(event, Ask):
                self._ask(event)
            elif isinstance(event, End):
                self._end(event)
            elif isinstance(event, Recorded):
                self._recorded(event)
            if self.found.difference is not None:
                break
        return self.found

    def _configure(self, config: Any) -> Problem:
        """The problem with these settings, which drive the run from here on."""
        self.config = config
        if self.problem is None:
            return stored_problem(self.files, {**self.stored.attributes, CONFIG: config})
        settings = checked(type(self.problem.settings), config, f"run '{self.files.name}'")
        return Problem.of(self.problem.space, self.problem.evaluator, settings)

    def _ask(self, ask: Ask) -> None:
        """The picks, unless a language model made them."""
        selector, numbers = self.selector, range(ask.first, ask.first + len(ask.ncodes))
        trials = self.stored.trials[ask.first : numbers.stop]
        self._check(ask.first == self.arrays.size and len(trials) == len(numbers), ask)
        if (stored := [trial.ncode for trial in trials]) != list(ask.ncodes):
            difference = Difference(ask.first, "trials", list(ask.ncodes), stored)
            self.found = replace(self.found, difference=difference)
            return
        history = self.arrays.history(None, selector.weights(ask.first))
        proposal = selector.propose(history, self.findings)
        self.findings = proposal.findings
        requested = len(proposal.requested)
        ranked = ask.n > requested and len(history) + requested >= selector.initial
        if ranked and isinstance(selector.ranker, AskingRanker):
            self.found = replace(self.found, skipped=self.found.skipped + 1)
        else:
            picks = selector.select(proposal.pool, history, proposal.requested, ask.n).picks
            self._compare(ask.first, "picks", list(ask.ncodes), picks)
        self.arrays.extend([Trial(trial.number, trial.ncode) for trial in trials])

    def _end(self, end: End) -> None:
        """A trial is known from here on."""
        known = 0 <= end.trial < self.arrays.size
        self._check(known and self.stored.trials[end.trial].state is end.state, end)
        self.arrays.update(self.stored.trials[end.trial])

    def _check(self, follows: bool, event: Event) -> None:
        if not follows:
            raise StoreError(
                f"run '{self.files.name}': its log does not fit its trials: {event!r} after "
                f"{self.arrays.size} trials; the store was edited, or is damaged"
            )

    def _recorded(self, event: Recorded) -> None:
        """A request is taken as it is; memory's decisions are recomputed once all are read."""
        self._note(event)
        if event.key.startswith("memory:") and not is_request(event.key):
            self.memory.append(_decision(event.record))
        elif event.key == WEIGHED:
            self._weighed()
        elif event.key == CONFIG and event.record != self.config:
            self.selector = self._configure(event.record).selector(self.selector.requests)

    def _note(self, event: Recorded) -> None:
        self.logged[event.key] = event.record
        if is_request(event.key):
            read = RunRecords.of({event.key: event.record}).requests()
            self.selector.requests.records.update(read)

    def _weighed(self) -> None:
        history = self.arrays.history(None, None)
        self.findings, decisions = self.selector.revise(history, self.findings)
        now = [_decision(decision.document) for decision in decisions]
        self._compare(len(history), "memory", self.memory, now)
        self.memory = []

    def _since_migration(self, events: list[Event]) -> list[Event]:
        """The events after a migration, all if there was none. Those before it are noted only: the
        order in which the trials of an earlier format ended is not known."""
        at, migrated = next(
            ((at, event) for at, event in enumerate(events) if isinstance(event, Migrated)),
            (0, None),
        )
        if migrated is None:
            return events
        for event in events[:at]:
            if isinstance(event, Recorded):
                self._note(event)
        later = events[at + 1 :]
        records = RunRecords.of(self.logged)
        self.findings = remembered(self.selector.space, records.settled(), records.weighed)
        self.found = Replayed(skipped=migrated.trials)
        ended_later = {event.trial for event in later if isinstance(event, End)}
        self.arrays.extend(
            [
                Trial(t.number, t.ncode) if t.number in ended_later else t
                for t in self.stored.trials[: migrated.trials]
            ]
        )
        return later

    def _compare(self, trial: int, what: str, logged: list[str], now: list[str]) -> None:
        difference = Difference(trial, what, logged, now) if logged != now else None
        self.found = replace(self.found, decisions=self.found.decisions + 1, difference=difference)


def _decision(record: Mapping[str, Any]) -> str:
    return f"{record['action']} {record['position']} = {record.get('choice', record['option'])}"
