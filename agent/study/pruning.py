"""Optuna's pruners on the trials in memory.

A pruner asks its study for the trials and keeps marks with them. It gets both from here: the
trials as Optuna's, and a place for the marks, which the store keeps with each trial.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any, cast

from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.trial_documents import Draft
from lm_searcher.spaces.history import Trial

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.study import Study, StudyDirection
    from optuna.trial import FrozenTrial
    from optuna.trial import TrialState as OptunaState


class Pruning:
    """A pruner, and the trials as it sees them."""

    def __init__(self, pruner: BasePruner, objectives: ObjectiveSet) -> None:
        from optuna.study import StudyDirection

        self.pruner = pruner
        name = "MAXIMIZE" if objectives.direction == "max" else "MINIMIZE"
        self._study = _Study(StudyDirection[name])

    def put(self, trial: Trial, draft: Draft) -> None:
        """Add the next trial, or change one."""
        self._study.frozen[trial.number : trial.number + 1] = [_frozen(trial, draft)]

    def truncate(self, size: int) -> None:
        """Forget the trials from number `size` on."""
        del self._study.frozen[size:]

    def judge(self, number: int) -> tuple[bool, Mapping[str, Any]]:
        """Whether the trial is to be stopped at its last report, and the pruner's new marks."""
        self._study.marks = {}
        frozen = self._study.frozen[number]
        stopped = self.pruner.prune(cast("Study", self._study), frozen)
        return bool(stopped), self._study.marks


class _Study:
    """As much of an Optuna study as the pruners of pruners.py use."""

    def __init__(self, direction: StudyDirection) -> None:
        self.direction = direction
        self.frozen: list[FrozenTrial] = []
        self.marks: dict[str, Any] = {}
        self._storage = self

    def get_trials(
        self, deepcopy: bool = True, states: Container[OptunaState] | None = None
    ) -> list[FrozenTrial]:
        """See optuna.study.Study; the trials are not copied."""
        if states is None:
            return self.frozen
        return [trial for trial in self.frozen if trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """See optuna.storages.BaseStorage: a mark of the trial that is judged."""
        self.marks[key] = value


def _frozen(trial: Trial, draft: Draft) -> FrozenTrial:
    from optuna.trial import FrozenTrial
    from optuna.trial import TrialState as OptunaState

    return FrozenTrial(
        number=trial.number,
        trial_id=trial.number,
        state=OptunaState[trial.state.value],
        value=trial.value,
        datetime_start=None,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={key: value for key, (_, value) in draft.marks.items()},
        intermediate_values=dict(zip(draft.steps, trial.curve, strict=True)),
    )
