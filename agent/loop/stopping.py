"""When a search ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import model_validator

from lm_searcher.spaces.history import History
from lm_searcher.spaces.settings import Count, Finite, Positive, SettingsModel

if TYPE_CHECKING:
    from lm_searcher.agent.state import Context

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


FAILURES = "failures in a row"
"""Said of a search that was ended by them."""


class Interrupted(KeyboardInterrupt):
    """The person asked the search to stop; everything finished is stored, and it can go on."""


def stop_reason(context: Context, history: History, seconds: float) -> str:
    """Why the search ends after these trials; empty if it goes on."""
    budget, n = context.budget, len(history)
    failures = min(trailing_failures(history), n - context.forgiven)
    if failures >= budget.failures:
        return f"{failures} {FAILURES}, the last: {context.store[n - 1].reason}"
    if context.requests is not None and context.requests.extra:
        return ""
    if budget.target is not None and reached(context, history, budget.target):
        return f"the target of {budget.target:g} is reached"
    if budget.trials is not None and n >= budget.trials:
        return f"the budget of {budget.trials} trials is spent"
    if budget.hours is not None and seconds >= 3600 * budget.hours:
        return f"the budget of {budget.hours:g} hours is spent"
    if budget.patience is not None and stale(history) >= budget.patience:
        what = "no change of the front" if context.store.objectives.several else "no new best"
        return f"{what} in {budget.patience} trials"
    return ""


def reached(context: Context, history: History, target: float) -> bool:
    """Whether the best trial that keeps the constraints is at least as good as the target."""
    best = history.elites(1)
    if not len(best):
        return False
    trial = context.store[int(best[0])]
    objectives = context.store.objectives
    return bool(trial.violation <= 0 and history.scores[best[0]] >= objectives.sign * target)


def trailing_failures(history: History) -> int:
    """The number of failed trials since the last one that did not."""
    good = np.flatnonzero(~history.failed)
    return len(history) - (int(good[-1]) + 1 if len(good) else 0)


def stale(history: History) -> int:
    """The number of trials since the best so far, or since the front's last change; 0 before there
    is one."""
    best = history.elites(1)
    return len(history) - 1 - int(best[0]) if len(best) else 0
