"""What there is to say about a run, read from its store."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lm_searcher.agent.loop.memory import remembered
from lm_searcher.agent.results.front import Member, front_trials, hypervolumes, member_of
from lm_searcher.agent.results.incumbent import Incumbent, confirmations, find_incumbent
from lm_searcher.agent.study.frozen_trials import as_trial
from lm_searcher.agent.study.identity import stored_space
from lm_searcher.agent.study.lock import is_driven
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.records import RunRecords
from lm_searcher.agent.study.stop import Stop
from lm_searcher.agent.study.storage import open_storage, shown, store_errors, studies
from lm_searcher.spaces.errors import StoreError, unknown
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.ncode import DIGITS
from lm_searcher.spaces.space import Config, SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.spaces.usage import Usage


@dataclass(frozen=True)
class Result:
    """A run: its trials, what it found, and how it stands."""

    run: str
    store: str
    space: SearchSpace
    state: str
    """`finished`, `running` (a process drives it now), or `interrupted`."""
    stop: Stop | None
    """Why it ended; None unless it is finished."""
    objectives: ObjectiveSet
    trials: Sequence[Trial]
    attributes: Mapping[str, Any]

    @cached_property
    def records(self) -> RunRecords:
        """What is stored beside the trials. Raises StoreError for a damaged record."""
        return RunRecords.of(self.attributes)

    @property
    def metric(self) -> str:
        """The objective, or the first of several."""
        return self.objectives.metric

    @property
    def direction(self) -> str:
        """Its direction."""
        return self.objectives.direction

    @property
    def sign(self) -> float:
        """1 where more of it is better, -1 where less is."""
        return self.objectives.sign

    @property
    def incumbent(self) -> Incumbent | None:
        """The architecture that the search stands by; None while no trial has completed and kept
        the constraints, and where several objectives have a front instead."""
        if self.objectives.several:
            return None
        return find_incumbent(self.trials, self.attributes, self.sign)

    @property
    def front(self) -> list[Member]:
        """What the search has found: the feasible architectures that no other dominates, the best
        of the first objective first. With one objective those that are best alike."""
        fresh = confirmations(self.attributes)
        found = front_trials(self.trials, self.objectives)
        return [member_of(t, self.objectives, fresh.get(t.number, [])) for t in found]

    @property
    def nearest(self) -> Trial | None:
        """Where no trial keeps the constraints, the one that oversteps them least."""
        valued = [t for t in self.trials if t.state is TrialState.COMPLETE]
        if not valued or any(t.violation <= 0 for t in valued):
            return None
        return min(valued, key=lambda t: t.violation)

    def hypervolumes(self) -> list[float]:
        """What the front dominates after each trial; see front.py."""
        return hypervolumes(self.trials, self.objectives)

    @property
    def best_config(self) -> Config | None:
        """The incumbent, decoded."""
        best = self.incumbent
        return self.space.decode(best.ncode) if best else None

    @property
    def subspace(self) -> Subspace:
        """What is still searched."""
        return remembered(self.space, self.records.settled()).subspace

    @property
    def decisions(self) -> list[dict[str, Any]]:
        """Every prune and widening with its evidence, in order."""
        return [decision.document for decision in self.records.settled()]

    @property
    def failures(self) -> list[Trial]:
        """The trials that failed."""
        return [t for t in self.trials if t.state is TrialState.FAIL]

    @property
    def usage(self) -> Usage:
        """What asking a model took over the whole run; all 0 where none was asked."""
        return Usage.total(t.usage for t in self.trials)

    def best_so_far(self) -> list[float | None]:
        """The best objective after each trial among those that keep the constraints; None before
        the first. With several objectives the best of the first alone."""
        best: list[float | None] = []
        so_far = -math.inf
        for trial in self.trials:
            good = trial.state is TrialState.COMPLETE and trial.violation <= 0
            if trial.value is not None and good:
                so_far = max(so_far, self.sign * trial.value)
            best.append(None if so_far == -math.inf else self.sign * so_far)
        return best

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain data."""
        best, subspace = self.incumbent, self.subspace
        return {
            "run": self.run,
            "store": self.store,
            "space": self.space.name,
            "state": self.state,
            "stop": str(self.stop or ""),
            "stop_reason": self.stop.reason if self.stop else None,
            "objective": self.objectives.to_json(),
            "trials": [_trial_json(t, self.objectives) for t in self.trials],
            "incumbent": asdict(best) | {"config": self.best_config} if best else None,
            **self._front_json(),
            "confirmations": confirmations(self.attributes),
            "subspace": {
                "size": subspace.size,
                "allowed": {
                    p.name: [p.choices[DIGITS.index(d)] for d in kept]
                    for p, kept in zip(self.space.positions, subspace.allowed, strict=True)
                },
                "decisions": self.decisions,
            },
            "account": asdict(self.usage) if self.usage.decisions else None,
            "config": self.attributes.get("config"),
        }

    def _front_json(self) -> dict[str, Any]:
        """Of several objectives the front; empty for one."""
        if not self.objectives.several:
            return {}
        front = [m.to_json() | {"config": self.space.decode(m.ncode)} for m in self.front]
        return {"front": front, "hypervolumes": self.hypervolumes()}


def _trial_json(trial: Trial, objectives: ObjectiveSet) -> dict[str, Any]:
    beside = (
        {} if objectives.plain else {"values": list(trial.values), "violation": trial.violation}
    )
    return beside | {
        "number": trial.number,
        "ncode": trial.ncode,
        "state": str(trial.state),
        "value": trial.value,
        "metrics": dict(trial.metrics),
        "seed": trial.seed,
        "fidelity": trial.fidelity,
        "reason": trial.reason,
        "seconds": trial.seconds,
        "curve": list(trial.curve),
        "account": asdict(trial.usage) if trial.usage else None,
    }


def read_run(files: RunFiles) -> Result:
    """The run as its store has it now; writes nothing. Raises StoreError."""
    with open_storage(files.url, create=False) as storage, store_errors(files.url):
        names = [s.study_name for s in storage.get_all_studies()]
        if files.name not in names:
            raise StoreError(f"store '{shown(files.url)}': {unknown('run', files.name, names)}")
        study_id = storage.get_study_id_from_name(files.name)
        attributes = storage.get_study_user_attrs(study_id)
        frozen = storage.get_all_trials(study_id, deepcopy=False)
    if "id" not in attributes:  # which is stored last
        raise StoreError(
            f"store '{shown(files.url)}': study '{files.name}' is no run that has begun"
        )
    stop, objectives = Stop.of(attributes.get("stop")), ObjectiveSet.stored(attributes["objective"])
    driven = is_driven(files)
    trials = [as_trial(t, objectives) for t in frozen]
    if not driven:  # whatever ran was cut short, and runs again when the run goes on
        trials = [
            replace(t, state=TrialState.WAITING) if t.state is TrialState.RUNNING else t
            for t in trials
        ]
    state = "finished" if stop else "running" if driven else "interrupted"
    return Result(
        files.name,
        shown(files.url),
        stored_space(attributes["space"]),
        state,
        stop,
        objectives,
        trials,
        attributes,
    )


def list_runs(folder: Path, url: str | None) -> list[dict[str, Any]]:
    """Every run in a folder, or in the store at a URL; what is no run is passed over."""
    if url is None:
        names = sorted(path.parent.name for path in folder.glob("*/trials.db"))
    else:
        names = studies(url)
    rows = []
    for name in names:
        try:
            result = read_run(RunFiles.of(name, folder, url))
        except StoreError as error:
            if url is None:
                rows.append(_row(name, f"unreadable: {error}"))
            continue
        best = result.incumbent
        rows.append(
            _row(name, result.state, result.space.name, len(result.trials))
            | {"best": best and best.value, "ncode": best and best.ncode}
            | ({"front": len(result.front)} if result.objectives.several else {})
        )
    return rows


def _row(name: str, state: str, space: str = "", trials: int = 0) -> dict[str, Any]:
    return {
        "run": name,
        "state": state,
        "space": space,
        "trials": trials,
        "best": None,
        "ncode": None,
    }
