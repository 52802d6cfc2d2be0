"""An Optuna storage that refuses every change."""

from __future__ import annotations

from typing import Any, NoReturn

from optuna.storages import BaseStorage

from lm_searcher.spaces.errors import StoreError


class ReadOnlyStorage(BaseStorage):
    """The methods that write raise StoreError; subclasses have those that read, and
    `create_new_study`."""

    def refuse(self, *_: Any, **__: Any) -> NoReturn:
        """Raise StoreError, whatever is to be written."""
        raise StoreError(
            "Optuna's view of a run is read-only: only the search writes its trials; "
            "`lm-searcher export RUN --optuna URL` writes a study that may be changed"
        )

    delete_study = refuse
    set_study_user_attr = refuse
    set_study_system_attr = refuse
    create_new_trial = refuse
    set_trial_param = refuse
    set_trial_state_values = refuse
    set_trial_intermediate_value = refuse
    set_trial_user_attr = refuse
    set_trial_system_attr = refuse
