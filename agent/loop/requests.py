"""Users' requests to a run: the next pick, or an option pruned or restored.

A request is a file beside the store; any process may write it. Before the run proposes, it reads
the waiting requests, stores a record of each under the number of the next trial, and only then
removes the files. Everything else follows from the records, which are in the log: a run that goes
on after a crash, and a replay, keep to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lm_searcher.agent.loop.memory import Findings, applied, decision_of
from lm_searcher.agent.loop.request_files import Request, waiting
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.records import USER, Decision, PickRequest, request_key
from lm_searcher.spaces.errors import NCodeError, SpaceError
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes, NCode, to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.tools.feasibility import Feasibility

Pair = tuple[int, int]
"""A position and an option, by number."""

RequestRecord = Decision | PickRequest
"""How a request is stored once it was taken up."""


@dataclass
class Requests:
    """The requests of one run: stored records, and the folder where new ones arrive."""

    space: SearchSpace
    folder: Path | None = None
    """None for a run that is kept in memory: it takes no requests."""
    records: dict[str, RequestRecord] = field(default_factory=dict)
    """By their key in the store, in order."""
    feasibility: Feasibility | None = None
    """The constraints that a pick must keep, as far as its costs are known."""

    @classmethod
    def of(
        cls,
        files: RunFiles,
        space: SearchSpace,
        records: Mapping[str, RequestRecord],
        feasibility: Feasibility | None = None,
    ) -> Requests:
        """The requests of a run with those records."""
        return cls(space, files.requests if files.kept else None, dict(records), feasibility)

    def extra(self, number: int) -> int:
        """How many picks wait that are to be evaluated even if the search ends before trial
        `number`: not taken up yet, or taken up for that trial."""
        new = waiting(self.folder) if self.folder is not None else ()
        taken_up = (r for r in self.records.values() if isinstance(r, PickRequest))
        return sum(request.extra for _, request in new) + sum(
            r.extra and not r.refused and r.trial == number for r in taken_up
        )

    @property
    def barred(self) -> frozenset[Pair]:
        """Options that a user has pruned: they are never drawn."""
        return self._last("prune")

    @property
    def kept(self) -> frozenset[Pair]:
        """Options that a user has restored: memory does not prune them."""
        return self._last("widen")

    def _last(self, action: str) -> frozenset[Pair]:
        places = {p.name: i for i, p in enumerate(self.space.positions)}
        last = {
            (places[record.position], record.option): record.action
            for record in self.records.values()
            if isinstance(record, Decision)
        }
        return frozenset(pair for pair, latest in last.items() if latest == action)

    def permitted(self, pool: Codes) -> Codes:
        """The rows without a barred option."""
        free = np.ones(len(pool), dtype=bool)
        for position, option in self.barred:
            free &= pool[:, position] != option
        return pool[free]

    # -- taking requests up ------------------------------------------------------------------

    def take_up(
        self,
        history: History,
        findings: Findings,
        most: int,
        write: Callable[[str, RequestRecord], None],
    ) -> None:
        """Record the waiting requests for the trial after `history`, at most `most` picks of them.

        `write` stores a record; the request's file is removed once it has returned.
        """
        for path, key, record in self._records_of_waiting(history, findings, most):
            if record is not None:
                write(key, record)
                self.records[key] = record
            path.unlink(missing_ok=True)

    def preview(self, history: History, findings: Findings, most: int) -> Requests:
        """These requests as they would be after `take_up`; writes and removes nothing."""
        ahead = replace(self, records=dict(self.records))
        for _, key, record in ahead._records_of_waiting(history, findings, most):
            if record is not None:
                ahead.records[key] = record
        return ahead

    def apply(self, findings: Findings, number: int) -> tuple[Findings, list[NCode]]:
        """What was recorded for trial `number`: the findings after it, and the picks."""
        subspace, pruned = findings.subspace, findings.pruned
        for record in self.records.values():
            if isinstance(record, Decision) and record.trial == number:
                subspace, pruned = applied(subspace, pruned, record)
        findings = Findings(subspace, pruned, findings.weighed, self.kept)
        return findings, self.picks(number)

    def picks(self, number: int) -> list[NCode]:
        """The architectures to evaluate as trial `number` and the trials after it."""
        return [
            record.ncode
            for record in self.records.values()
            if isinstance(record, PickRequest) and record.trial == number and not record.refused
        ]

    def seeds(self, number: int) -> dict[NCode, int]:
        """The seeds that users asked for, of the picks of trial `number` and after it."""
        picks = (r for r in self.records.values() if isinstance(r, PickRequest))
        return {r.ncode: r.seed for r in picks if r.trial == number and r.seed is not None}

    def _records_of_waiting(
        self, history: History, findings: Findings, most: int
    ) -> Iterator[tuple[Path, str, RequestRecord | None]]:
        """File, key and record of each waiting request; no record for one that has its own: a
        crash came between the record and the removal of the file."""
        number = len(history)
        for path, request in waiting(self.folder) if self.folder is not None else ():
            if any(key.endswith(path.stem) for key in self.records):
                yield path, "", None
            elif request.action != "pick" or len(self.picks(number)) < most:
                record = self._record(request, history, self.apply(findings, number)[0].subspace)
                yield path, request_key(record, path.stem), record

    def _record(self, request: Request, history: History, subspace: Subspace) -> RequestRecord:
        """The record of a request; one that cannot be met is refused, and the run goes on."""
        try:
            return self._met(request, history, subspace)
        except (NCodeError, SpaceError) as error:
            return PickRequest(
                trial=len(history),
                action="pick",
                ncode=request.ncode,
                refused=str(error),
                wish=request.action,
            )

    def _met(self, request: Request, history: History, subspace: Subspace) -> RequestRecord:
        number = len(history)
        if request.action == "pick":
            self._check_pick(request.ncode, history)
            given = {} if request.seed is None else {"seed": request.seed}
            return PickRequest(
                trial=number, action="pick", ncode=request.ncode, extra=request.extra, **given
            )
        pair = request.position, request.option
        widened = subspace.widen(*pair)
        if request.action == "prune":
            widened.restrict(*pair)  # raises SpaceError for a position's last option
        return decision_of(number, request.action, subspace, *pair, by=USER)

    def _check_pick(self, ncode: NCode, history: History) -> None:
        """Raises NCodeError for an architecture that was tried, or breaks a constraint."""
        same = self.space.canonical(self.space.check(ncode))
        if self.feasibility is not None:
            self.feasibility.check(ncode)
        tried = [*to_ncodes(history.codes), *self.picks(len(history))]
        classes = [self.space.canonical(other) for other in tried]
        if same in classes:
            raise NCodeError(f"'{ncode}' is trial {classes.index(same)} already")
