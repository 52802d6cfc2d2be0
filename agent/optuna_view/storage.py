"""Runs as studies of an Optuna storage: `optuna.load_study` and Optuna's figures work on them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Container, Sequence
from pathlib import Path
from threading import RLock
from typing import Any

from optuna.exceptions import DuplicatedStudyError
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy  # in the interface of every storage
from optuna.trial import FrozenTrial, TrialState

from lm_searcher.agent.optuna_view.read_only import ReadOnlyStorage
from lm_searcher.agent.optuna_view.snapshot import TRIALS, Snapshot
from lm_searcher.agent.optuna_view.sources import Source, StoredRuns
from lm_searcher.spaces.errors import StoreError, unknown


class ResultStorage(ReadOnlyStorage):
    """The runs of a source, each a study of the same name.

    A study's id counts the runs in the order in which they were first seen. `listed`: see
    `conversion.frozen_trial`. May be used by several threads.
    """

    def __init__(self, source: Source, listed: bool = False) -> None:
        self._source, self._listed = source, listed
        self._names: list[str] = []
        self._snapshots: dict[str, Snapshot] = {}
        self._lock = RLock()

    def _ids(self) -> dict[str, int]:
        """The ids of the runs that there are now."""
        with self._lock:
            names = self._source.names()
            self._names.extend(name for name in names if name not in self._names)
            return {name: i for i, name in enumerate(self._names) if name in names}

    def _snapshot(self, study_id: int) -> Snapshot:
        """The study as it is now. Raises KeyError, or StoreError if the run cannot be read."""
        with self._lock:
            name = self.get_study_name_from_id(study_id)
            result, before = self._source.result(name), self._snapshots.get(name)
            if before is None or before.result is not result:
                self._snapshots[name] = Snapshot(result, study_id, self._listed, before)
            return self._snapshots[name]

    def _trials(self, study_id: int) -> list[FrozenTrial]:
        with self._lock:
            return self._snapshot(study_id).trials

    # -- studies -----------------------------------------------------------------------------

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """Refused; `optuna.create_study(load_if_exists=True)` finds a run that there is."""
        if study_name in self._ids():
            raise DuplicatedStudyError(f"there is a run '{study_name}' already")
        self.refuse()

    def get_study_id_from_name(self, study_name: str) -> int:
        """See BaseStorage."""
        ids = self._ids()
        if study_name not in ids:
            raise KeyError(unknown("run", study_name, ids))
        self._snapshot(ids[study_name])  # raises StoreError for a study that is no run
        return ids[study_name]

    def get_study_name_from_id(self, study_id: int) -> str:
        """See BaseStorage."""
        for name, known in self._ids().items():
            if known == study_id:
                return name
        raise KeyError(f"no study with id {study_id}")

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """See BaseStorage."""
        return self._snapshot(study_id).study.directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """See BaseStorage."""
        return self._snapshot(study_id).study.user_attrs

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """See BaseStorage."""
        return self._snapshot(study_id).study.system_attrs

    def get_all_studies(self) -> list[FrozenStudy]:
        """Every run that can be read; see BaseStorage."""
        studies = []
        for study_id in self._ids().values():
            with contextlib.suppress(StoreError, KeyError):
                studies.append(self._snapshot(study_id).study)
        return studies

    # -- trials ------------------------------------------------------------------------------

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """See BaseStorage."""
        study_id, number = divmod(trial_id, TRIALS)
        trials = self._trials(study_id)
        if number >= len(trials):
            raise KeyError(f"no trial with id {trial_id}")
        return trials[number]

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """See BaseStorage."""
        trials = [t for t in self._trials(study_id) if states is None or t.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """The best feasible trial; the best of all if none is feasible. See BaseStorage."""
        best = super().get_best_trial(study_id)
        trials = self.get_all_trials(study_id, deepcopy=False, states=[TrialState.COMPLETE])
        feasible = [t for t in trials if all(x <= 0 for x in t.constraints.values())]
        most = self.get_study_directions(study_id)[0] is StudyDirection.MAXIMIZE
        return (max if most else min)(feasible or [best], key=lambda t: t.values[0])


class RunStorage(ResultStorage):
    """Stored runs as Optuna studies, live ones included.

        study = optuna.load_study(study_name="my-run", storage=RunStorage())

    Args:
        runs: The names of the runs; all runs of the folder or store if there are none.
        folder: Where runs are kept.
        store: The URL of the store; by default each run has one in the folder.

    Raises StoreError if one of the named runs cannot be read.
    """

    def __init__(self, *runs: str, folder: str | Path = "runs", store: str | None = None) -> None:
        super().__init__(StoredRuns(Path(folder), store, runs))
