"""When a search ends, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import model_validator

from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.stop import Stop, StopReason
from lm_searcher.spaces.history import History, Trial
from lm_searcher.spaces.settings import Count, Finite, Positive, SettingsModel

DEFAULT_TRIALS = 100


class Budget(SettingsModel):
    """[budget]: the search ends at whichever limit comes first."""

    ROLE: ClassVar = "budget"

    trials: Count | None = None
    """Trials in all. Default: 100, or no limit if `hours` is given."""
    hours: Positive | None = None
    """Wall-clock time of the search, over all processes of the run."""
    target: Finite | None = None
    """Stop once the objective is at least this good, in its own sign and direction."""
    patience: Count | None = None
    """Stop after this many trials in a row without a new best, or a change of the front."""
    failures: Count = 10
    """Stop after this many failed trials in a row."""

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        bounded = given.get("trials") is not None or given.get("hours") is not None
        return given if bounded else {**given, "trials": DEFAULT_TRIALS}


class Interrupted(KeyboardInterrupt):
    """The user asked the search to stop; all finished trials are stored, and it can go on."""


def find_stop(
    budget: Budget,
    history: History,
    trials: Sequence[Trial],
    objectives: ObjectiveSet,
    *,
    seconds: float = 0.0,
    forgiven: int = 0,
) -> Stop | None:
    """Why the search ends after the trials of `history`; None while it goes on.

    Pending trials count for the budget of trials only. `seconds` is the wall-clock time spent so
    far; `forgiven`, the trials whose failures no longer count.
    """
    n = len(history)
    failures = trailing_failures(history, forgiven)
    if failures >= budget.failures:
        return Stop(
            reason=StopReason.FAILURES, limit=failures, detail=_last_reason(history, trials)
        )
    if budget.target is not None and _reached(budget.target, history, trials, objectives):
        return Stop(reason=StopReason.TARGET, limit=budget.target)
    if budget.trials is not None and n >= budget.trials:
        return Stop(reason=StopReason.TRIALS, limit=budget.trials)
    if budget.hours is not None and n and seconds >= 3600 * budget.hours:
        return Stop(reason=StopReason.HOURS, limit=budget.hours)
    if budget.patience is not None and stagnant_trials(history) >= budget.patience:
        what = "no change of the front" if objectives.several else "no new best"
        return Stop(reason=StopReason.PATIENCE, limit=budget.patience, detail=what)
    return None


def _reached(
    target: float, history: History, trials: Sequence[Trial], objectives: ObjectiveSet
) -> bool:
    """Whether the best feasible trial is at least as good as the target."""
    best = history.elites(1)
    if not len(best) or trials[int(best[0])].violation > 0:
        return False
    return bool(history.scores[best[0]] >= objectives.sign * target)


def _last_reason(history: History, trials: Sequence[Trial]) -> str:
    """Why the latest failed trial failed."""
    last = len(history) - 1 - int(np.argmax(history.failed[::-1]))
    return trials[last].reason or ""


def trailing_failures(history: History, forgiven: int = 0) -> int:
    """The most failed trials in a row since the last success, from trial `forgiven` on.

    A pending trial ends a row: among many trials that run, those that failed at once say nothing
    about their neighbours, which may yet succeed.
    """
    good = ~(history.failed | history.pending)[::-1]
    since = int(np.argmax(good)) if good.any() else len(history)
    failed = history.failed[max(forgiven, len(history) - since) :]
    ends = np.concatenate([[-1], np.flatnonzero(~failed), [len(failed)]])
    return int(np.diff(ends).max()) - 1


def stagnant_trials(history: History) -> int:
    """The number of finished trials since the best one, or since the front last changed; 0 without
    one."""
    best = history.elites(1)
    if not len(best):
        return 0
    later = history.pending[int(best[0]) + 1 :]
    return len(later) - int(np.count_nonzero(later))
