"""A copy of a run as a plain Optuna study, in any storage that Optuna opens by a URL."""

from __future__ import annotations

import contextlib

import optuna
from optuna.storages import BaseStorage, RDBStorage

from lm_searcher.agent.optuna_view.sources import FixedResults
from lm_searcher.agent.optuna_view.storage import ResultStorage
from lm_searcher.agent.results.result import Result
from lm_searcher.agent.study.storage import shown, store_errors
from lm_searcher.spaces.errors import StoreError


def export_study(result: Result, url: str) -> int:
    """Write the run as a study of the same name; returns the number of trials.

    Raises StoreError if the storage cannot be written, is the run's own, or has such a study.
    """
    if shown(url) == result.store:
        raise StoreError(f"store '{shown(url)}' is the run's own; export to another")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with store_errors(url), contextlib.closing(_Opened(url)) as opened:
        return _copy(result, opened.storage, url)


def _copy(result: Result, storage: BaseStorage, url: str) -> int:
    view = ResultStorage(FixedResults(result))
    [study] = view.get_all_studies()
    trials = view.get_all_trials(study._study_id, deepcopy=False)
    try:
        study_id = storage.create_new_study(study.directions, study.study_name)
    except optuna.exceptions.DuplicatedStudyError:
        raise StoreError(
            f"store '{shown(url)}' has a study '{result.run}' already; export to another URL"
        ) from None
    try:
        for key, value in study.system_attrs.items():
            storage.set_study_system_attr(study_id, key, value)
        for key, value in study.user_attrs.items():
            storage.set_study_user_attr(study_id, key, value)
        for trial in trials:
            storage.create_new_trial(study_id, trial)
    except BaseException:  # half a study would stand in the way of the next attempt
        storage.delete_study(study_id)
        raise
    return len(trials)


class _Opened:
    """Optuna's storage at a URL, until closed."""

    def __init__(self, url: str) -> None:
        self.storage = RDBStorage(url)

    def close(self) -> None:
        self.storage.remove_session()
        self.storage.engine.dispose()
