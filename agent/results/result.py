"""A run as its store has it: trials, state, and what is derived from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from lm_searcher.agent.loop.memory import remembered
from lm_searcher.agent.results.front import Member, front_trials, hypervolumes, member_of
from lm_searcher.agent.results.incumbent import Incumbent, find_incumbent
from lm_searcher.agent.study.identity import stored_space
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.run_records import RunRecords
from lm_searcher.agent.study.stop import Stop
from lm_searcher.agent.study.storage import shown
from lm_searcher.agent.study.stored_run import stored_run
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.ncode import DIGITS
from lm_searcher.spaces.space import Config, SearchSpace
from lm_searcher.spaces.subspace import Subspace
from lm_searcher.spaces.usage import Usage


@dataclass(frozen=True)
class Result:
    """A run: its trials, its state and what it has found."""

    run: str
    store: str
    space: SearchSpace
    state: str
    """`finished`, `running` (a process runs it now), or `interrupted`."""
    stop: Stop | None
    """Why it ended; None unless it is finished."""
    objectives: ObjectiveSet
    trials: Sequence[Trial]
    attributes: Mapping[str, Any]
    """The run's attributes as stored."""

    @cached_property
    def records(self) -> RunRecords:
        """The typed form of the attributes. Raises StoreError for a damaged record."""
        return RunRecords.of(self.attributes)

    @property
    def metric(self) -> str:
        """The metric of the first objective."""
        return self.objectives.metric

    @property
    def direction(self) -> str:
        """The direction of the first objective: max or min."""
        return self.objectives.direction

    @property
    def sign(self) -> float:
        """1 if the first objective is maximised, -1 if it is minimised."""
        return self.objectives.sign

    @property
    def incumbent(self) -> Incumbent | None:
        """The recommended architecture; None before a feasible trial has completed, and for runs
        with several objectives, whose result is the front."""
        if self.objectives.several:
            return None
        return find_incumbent(self.trials, self.records, self.sign)

    @property
    def front(self) -> list[Member]:
        """The Pareto front of the feasible trials, the best of the first objective first.

        With one objective: all trials that share the best value.
        """
        fresh = self.records.confirmed()
        found = front_trials(self.trials, self.objectives)
        return [member_of(t, self.objectives, fresh.get(t.number, [])) for t in found]

    @property
    def nearest(self) -> Trial | None:
        """The trial with the smallest constraint violation; None if some trial is feasible."""
        valued = [t for t in self.trials if t.state is TrialState.COMPLETE]
        if not valued or any(t.violation <= 0 for t in valued):
            return None
        return min(valued, key=lambda t: t.violation)

    def hypervolumes(self) -> list[float]:
        """The front's hypervolume after each trial; see `front.hypervolumes`."""
        return hypervolumes(self.trials, self.objectives)

    @property
    def best_config(self) -> Config | None:
        """The incumbent's options by position name."""
        best = self.incumbent
        return self.space.decode(best.ncode) if best else None

    @property
    def subspace(self) -> Subspace:
        """The part of the space that is still searched."""
        return remembered(self.space, self.records.settled()).subspace

    @property
    def decisions(self) -> list[dict[str, Any]]:
        """Every prune and widening with its evidence, the oldest first."""
        return [decision.document for decision in self.records.settled()]

    @property
    def failures(self) -> list[Trial]:
        """The trials that failed."""
        return [t for t in self.trials if t.state is TrialState.FAIL]

    @property
    def usage(self) -> Usage:
        """The language model's usage over the whole run; all zeros if none was asked."""
        return Usage.total(t.usage for t in self.trials)

    def best_so_far(self) -> list[float | None]:
        """The best feasible value of the first objective after each trial; None before one."""
        curve: list[float | None] = []
        best = -math.inf
        for trial in self.trials:
            feasible = trial.state is TrialState.COMPLETE and trial.violation <= 0
            if trial.value is not None and feasible:
                best = max(best, self.sign * trial.value)
            curve.append(None if best == -math.inf else self.sign * best)
        return curve

    def to_json(self) -> dict[str, Any]:
        """The whole result as plain data. The keys are public: `show --json` prints them."""
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
            "confirmations": {
                number: [confirmation.document for confirmation in confirmed]
                for number, confirmed in self.records.confirmed().items()
            },
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
        """The front and its hypervolumes; empty for a run with one objective."""
        if not self.objectives.several:
            return {}
        front = [m.to_json() | {"config": self.space.decode(m.ncode)} for m in self.front]
        return {"front": front, "hypervolumes": self.hypervolumes()}


def _trial_json(trial: Trial, objectives: ObjectiveSet) -> dict[str, Any]:
    extra = {} if objectives.plain else {"values": list(trial.values), "violation": trial.violation}
    return extra | {
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
        "attempt": trial.attempt,
        "place": trial.place,
        "account": asdict(trial.usage) if trial.usage else None,
    }


def read_run(files: RunFiles) -> Result:
    """The run as its store has it now. Writes nothing. Raises StoreError if there is none."""
    run = stored_run(files)
    stop = Stop.of(run.attributes.get("stop"))
    trials = run.trials
    if not run.driven:  # a trial left as running was cut short; it runs again when the run resumes
        trials = [
            replace(t, state=TrialState.WAITING) if t.state is TrialState.RUNNING else t
            for t in trials
        ]
    return Result(
        run=files.name,
        store=shown(files.url),
        space=stored_space(run.attributes["space"]),
        state="finished" if stop else "running" if run.driven else "interrupted",
        stop=stop,
        objectives=run.objectives,
        trials=trials,
        attributes=run.attributes,
    )
