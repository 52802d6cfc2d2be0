"""What a person asks of a run by hand: the next pick, an option pruned or restored.

A request is a file beside the store, from whichever process. The run takes it up when it next
proposes, notes it in its store under the number of the trial that comes next, and only then
removes the file. All that follows is derived from the notes, so that a step that is replayed after
a crash does as before, and a run that goes on remembers.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from lm_searcher.agent.loop.memory import Findings, described
from lm_searcher.spaces.errors import NCodeError, SpaceError
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes, NCode, to_ncodes
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.tools.feasibility import Feasibility
from lm_searcher.tools.files import write_atomically

if TYPE_CHECKING:
    from lm_searcher.agent.study.paths import RunFiles
    from lm_searcher.agent.study.trial_store import TrialStore

HAND = "hand"
Pair = tuple[int, int]
"""A position and an option, by number."""


class Request(BaseModel):
    """One wish. `pick` is for the next pick, and with `extra` beyond the budget if need be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Literal["pick", "prune", "widen"]
    ncode: NCode = ""
    extra: bool = False
    position: int = 0
    option: int = 0


def submit(files: RunFiles, request: Request) -> None:
    """Leave a request for the run; it appears whole. The run need not be under way."""
    folder = files.requests
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{time.time_ns():020d}-{secrets.token_hex(4)}.json"  # in the order of submission
    write_atomically(folder / name, request.model_dump_json())


def waiting(folder: Path) -> Iterator[tuple[Path, Request]]:
    """The requests that no step has taken up yet, in order; what is none is passed over."""
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValidationError):
            yield path, Request.model_validate_json(path.read_text())


@dataclass
class Requests:
    """The requests of one run: those noted in its store, and where new ones come in."""

    space: SearchSpace
    folder: Path | None = None
    """None for a run that keeps nothing: it takes no requests."""
    noted: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Notes by their key in the store, in order."""
    known: Feasibility | None = None
    """Constraints that a pick must keep, as far as is known of it."""

    @classmethod
    def of(
        cls,
        files: RunFiles,
        space: SearchSpace,
        attributes: Mapping[str, Any],
        known: Feasibility | None = None,
    ) -> Requests:
        """The requests of a run with those attributes."""
        noted = {k: v for k, v in sorted(attributes.items()) if is_note(k, v)}
        return cls(space, files.requests if files.kept else None, noted, known)

    @property
    def extra(self) -> bool:
        """Whether a pick waits that is to be evaluated even if the search would end."""
        return self.folder is not None and any(r.extra for _, r in waiting(self.folder))

    @property
    def barred(self) -> frozenset[Pair]:
        """Options that a person has pruned: never drawn."""
        return self._last("prune")

    @property
    def kept(self) -> frozenset[Pair]:
        """Options that a person has restored: memory leaves them alone."""
        return self._last("widen")

    def _last(self, action: str) -> frozenset[Pair]:
        places = {p.name: i for i, p in enumerate(self.space.positions)}
        last = {
            (places[note["position"]], int(note["option"])): note["action"]
            for note in self.noted.values()
            if note["action"] != "pick"
        }
        return frozenset(pair for pair, what in last.items() if what == action)

    def permitted(self, pool: Codes) -> Codes:
        """The rows that have no barred option."""
        fine = np.ones(len(pool), dtype=bool)
        for position, option in self.barred:
            fine &= pool[:, position] != option
        return pool[fine]

    def take_up(
        self, store: TrialStore, history: History, findings: Findings, most: int
    ) -> tuple[Findings, list[NCode]]:
        """Note what has come in since, at most `most` picks of it; then what was noted for the
        next trial, here or before a crash: the findings after it, and the picks."""
        number = len(history)
        if self.folder is not None:
            for path, request in waiting(self.folder):
                if request.action == "pick" and len(self.picks(number)) >= most:
                    continue
                self._note(store, path, request, history, self._revised(findings, number))
                path.unlink(missing_ok=True)
        return self._revised(findings, number), self.picks(number)

    def picks(self, number: int) -> list[NCode]:
        """The picks asked for as trial `number` and those after it."""
        return [
            note["ncode"]
            for note in self.noted.values()
            if note["action"] == "pick" and note["trial"] == number and "refused" not in note
        ]

    def _revised(self, findings: Findings, number: int) -> Findings:
        subspace, pruned = findings.subspace, findings.pruned
        for note in self.noted.values():
            if note["trial"] == number and note["action"] != "pick":
                subspace, pruned = revised(subspace, pruned, note)
        return Findings(subspace, pruned, findings.weighed, self.kept)

    def _note(
        self,
        store: TrialStore,
        path: Path,
        request: Request,
        history: History,
        findings: Findings,
    ) -> None:
        kind = "request" if request.action == "pick" else "memory"
        number = len(history)
        key = f"{kind}:{number:06d}:{HAND}:{path.stem}"
        if any(known.endswith(path.stem) for known in self.noted):
            return  # a crash came between the note and the removal of its file
        try:
            note = self._described(request, history, findings.subspace)
        except (NCodeError, SpaceError) as error:  # the run goes on; whoever asked may read why
            key = f"request:{number:06d}:{HAND}:{path.stem}"
            note = {"trial": number, "action": "pick", "ncode": request.ncode}
            note |= {"refused": str(error), "wish": request.action}
        store.set_attribute(key, note)
        self.noted[key] = note

    def _described(self, request: Request, history: History, subspace: Subspace) -> dict[str, Any]:
        number = len(history)
        if request.action == "pick":
            same = self.space.canonical(self.space.check(request.ncode))
            if self.known is not None:
                self.known.check(request.ncode)
            tried = [
                *map(self.space.canonical, to_ncodes(history.codes)),
                *map(self.space.canonical, self.picks(number)),
            ]
            if same in tried:
                raise NCodeError(f"'{request.ncode}' is trial {tried.index(same)} already")
            return {
                "trial": number,
                "action": "pick",
                "ncode": request.ncode,
                "extra": request.extra,
            }
        if request.action == "prune":
            subspace.widen(request.position, request.option).restrict(
                request.position, request.option
            )
        else:
            subspace.widen(request.position, request.option)
        pair = request.position, request.option
        return described(number, request.action, subspace, *pair) | {"by": HAND}


def is_note(key: str, value: object) -> bool:
    """Whether an attribute of a run notes a request."""
    return f":{HAND}:" in key and isinstance(value, dict)


def revised(
    subspace: Subspace, pruned: list[list[int]], decision: Mapping[str, Any]
) -> tuple[Subspace, list[list[int]]]:
    """The subspace and memory's prunes that stand after one more decision of either.

    A prune by hand is none that memory may undo.
    """
    places = {p.name: i for i, p in enumerate(subspace.space.positions)}
    position, option = pair = [places[decision["position"]], int(decision["option"])]
    others = [other for other in pruned if other != pair]
    if decision["action"] == "widen":
        return subspace.widen(position, option), others
    if subspace.mask[position, option]:
        subspace = subspace.restrict(position, option)
    return subspace, others if decision.get("by") == HAND else [*others, pair]
