"""The trial store: an Optuna study, and the only place where trials live.

One categorical parameter a position; the NCode, seed, ranker, metrics, seconds and failure
reason as attributes; the learning curve as intermediate values; a direction an objective, and
constraints as Optuna keeps them. So Optuna's dashboard, plots and storages work on a run as they
are. Values carry the user's own signs; `history` turns them.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import create_trial

from lm_searcher.agent.study.frozen_trials import CONSTRAINT, STATES, as_trial
from lm_searcher.agent.study.history_arrays import HistoryArrays
from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.record import Record
from lm_searcher.agent.study.storage import open_storage, shown, store_errors
from lm_searcher.spaces.errors import StoreError
from lm_searcher.spaces.history import History, Trial, TrialState
from lm_searcher.spaces.ncode import NCode
from lm_searcher.spaces.objectives import Values
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.spaces.usage import Usage
from lm_searcher.tools.protocols import Outcome


class TrialStore:
    """One run's trials. This process is the only one that writes them (RunLock sees to it).

    Raises StoreError where the database does not do as it is told.
    """

    def __init__(
        self,
        url: str,
        name: str,
        space: SearchSpace,
        objectives: ObjectiveSet,
        pruner: BasePruner | None = None,
    ) -> None:
        self.url, self.name, self.space, self.objectives = url, name, space, objectives
        self._closing = contextlib.ExitStack()
        self.storage = self._closing.enter_context(open_storage(url))
        wanted = [
            StudyDirection.MAXIMIZE if goal.direction == "max" else StudyDirection.MINIMIZE
            for goal in objectives.goals
        ]
        with store_errors(url):
            try:
                self.study_id = self.storage.create_new_study(wanted, name)
            except optuna.exceptions.DuplicatedStudyError:
                self.study_id = self.storage.get_study_id_from_name(name)
        self.study = optuna.load_study(
            study_name=name,
            storage=self.storage,
            sampler=optuna.samplers.RandomSampler(),
            pruner=pruner or optuna.pruners.NopPruner(),
        )
        self.distributions: dict[str, BaseDistribution] = {
            p.name: CategoricalDistribution(p.choices) for p in space.positions
        }
        self._ids: list[int] = []
        self._curves: dict[int, dict[int, float]] = {}
        self._trials: list[Trial] = []
        self._arrays = HistoryArrays(space, objectives)

    @property
    def begun(self) -> bool:
        """Whether the study holds trials, whosever."""
        with store_errors(self.url):
            return bool(self.storage.get_n_trials(self.study_id))

    def load(self) -> None:
        """Read the trials of an earlier process."""
        with store_errors(self.url):
            frozen = self.storage.get_all_trials(self.study_id, deepcopy=False)
        for trial in frozen:
            self._ids.append(trial._trial_id)
            self._append(as_trial(trial, self.objectives))

    # -- attributes of the run -------------------------------------------------------------

    @property
    def attributes(self) -> dict[str, Any]:
        """What is stored with the run besides its trials."""
        with store_errors(self.url):
            found: dict[str, Any] = self.storage.get_study_user_attrs(self.study_id)
        return found

    def set_attribute(self, key: str, value: object) -> None:
        """Store something with the run, as JSON."""
        with store_errors(self.url):
            self.storage.set_study_user_attr(self.study_id, key, value)

    def write(self, key: str, record: Record) -> None:
        """Store a record of the run."""
        self.set_attribute(key, record.document)

    # -- trials ------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._trials)

    def __getitem__(self, number: int) -> Trial:
        return self._trials[number]

    @property
    def trials(self) -> Sequence[Trial]:
        """Every trial, by number; grows as the run does."""
        return self._trials

    def history(self, before: int | None = None, weights: Values | None = None) -> History:
        """The trials with a number below `before`, as a ranker sees them.

        Scores are of equal fidelity: trials that were stopped early have estimates of what they
        would have come to (spaces/fidelity.py). With several objectives they are scalarised with
        `weights`; without these they tell domination ranks, as memory and the stopping rules see
        the trials.
        """
        return self._arrays.history(before, weights)

    def start(
        self, number: int, ncode: NCode, seed: int, ranker: str, account: Mapping[str, Any] = {}
    ) -> Trial:
        """The trial of that number, made unless an earlier process made it.

        Raises StoreError if it is of another architecture.
        """
        if number < len(self._trials):
            trial = self._trials[number]
            if trial.ncode != ncode:
                raise StoreError(
                    f"store '{shown(self.url)}': trial {number} of run '{self.name}' is of "
                    f"'{trial.ncode}', not '{ncode}'; another program wrote to this run"
                )
            if trial.state is TrialState.WAITING:
                trial = self._set_state(trial, TrialState.RUNNING)
            return trial
        attributes: dict[str, Any] = {"ncode": ncode, "seed": seed, "ranker": ranker}
        if account:
            attributes["account"] = dict(account)
        trial = Trial(number, ncode, seed=seed, usage=Usage.of(account) if account else None)
        template = create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=self.space.decode(ncode),
            distributions=self.distributions,
            user_attrs=attributes,
        )
        with store_errors(self.url):
            trial_id = self.storage.create_new_trial(self.study_id, template)
            given = self.storage.get_trial_number_from_id(trial_id)
        if given != number:
            raise StoreError(
                f"store '{shown(self.url)}': trial {number} of run '{self.name}' became number "
                f"{given}; another program writes to this run"
            )
        self._ids.append(trial_id)
        self._append(trial)
        return trial

    def put_back(self) -> None:
        """Trials whose process has gone wait to be evaluated again: none stays RUNNING."""
        for trial in self._trials:
            if trial.state is TrialState.RUNNING:
                self._set_state(trial, TrialState.WAITING)

    def _set_state(self, trial: Trial, state: TrialState) -> Trial:
        with store_errors(self.url):
            self.storage.set_trial_state_values(self._ids[trial.number], STATES[state])
        self._trials[trial.number] = trial = replace(trial, state=state)
        self._arrays.update(trial)
        return trial

    def report(self, number: int, step: int, value: float) -> bool:
        """Record one point of a learning curve; whether the pruner stops the trial here."""
        if not math.isfinite(value):
            return False
        trial_id = self._ids[number]
        curve = self._curves.setdefault(number, {})
        curve[step] = value
        with store_errors(self.url):
            self.storage.set_trial_intermediate_value(trial_id, step, value)
            frozen = copy.copy(self.storage.get_trial(trial_id))
            frozen.intermediate_values = dict(curve)  # an earlier process may have come further
            return bool(self.study.pruner.prune(self.study, frozen))

    def finish(self, number: int, outcome: Outcome, fidelity: float = 1.0) -> Trial:
        """Record what became of a running trial; one without all metrics has failed."""
        outcome = self.objectives.checked(outcome)
        state, violation = TrialState.FAIL, 0.0
        values: tuple[float, ...] = ()
        margins: Mapping[str, float] = {}
        if outcome.reason is None:
            state = TrialState.PRUNED if outcome.stopped else TrialState.COMPLETE
            values = self.objectives.values(outcome.metrics)
            violation = self.objectives.violation(outcome.metrics)
            margins = self.objectives.margins(outcome.metrics)
        attributes: dict[str, Any] = {"seconds": round(outcome.seconds, 4)}
        if outcome.metrics:
            attributes["metrics"] = dict(outcome.metrics)
        if outcome.reason is not None:
            attributes["reason"] = outcome.reason
        if fidelity != 1.0:
            attributes["fidelity"] = fidelity
        trial_id = self._ids[number]
        with store_errors(self.url):
            for key, content in attributes.items():
                self.storage.set_trial_user_attr(trial_id, key, content)
            for constraint, margin in margins.items():
                self.storage.set_trial_system_attr(trial_id, CONSTRAINT + constraint, margin)
            self.storage.set_trial_state_values(trial_id, STATES[state], values or None)
        curve = self._curves.pop(number, {})
        trial = replace(
            self._trials[number],
            state=state,
            value=values[0] if values else None,
            values=values,
            violation=violation,
            metrics=dict(outcome.metrics),
            fidelity=fidelity,
            reason=outcome.reason,
            seconds=attributes["seconds"],
            curve=tuple(curve[step] for step in sorted(curve)),
        )
        self._trials[number] = trial
        self._arrays.update(trial)
        return trial

    def _append(self, trial: Trial) -> None:
        self._trials.append(trial)
        self._arrays.append(trial)

    def close(self) -> None:
        """Let go of the database."""
        self._closing.close()
