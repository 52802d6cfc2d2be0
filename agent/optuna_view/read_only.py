"""An Optuna storage that refuses every change."""

from __future__ import annotations

from typing import Any, NoReturn

from optuna.storages import BaseStorage

from lm_searcher.spaces.errors import StoreError


class ReadOnlyStorage(BaseStorage):
    """The methods that write raise StoreError; subclasses have those that read."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise StoreError(
            "Optuna's view of a run is read-only: only the search writes its trials; "
            "`lm-searcher export RUN --optuna URL` writes a study that may be changed"
        )

    create_new_study = _refuse
    delete_study = _refuse
    set_study_user_attr = _refuse
    set_study_system_attr = _refuse
    create_new_trial = _refuse
    set_trial_param = _refuse
    set_trial_state_values = _refuse
    set_trial_intermediate_value = _refuse
    set_trial_user_attr = _refuse
    set_trial_system_attr = _refuse
