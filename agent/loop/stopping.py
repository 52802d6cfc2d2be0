"""When a search ends, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.stop import Stop, StopReason
from lm_searcher.spaces.history import History, Trial


@dataclass(frozen=True)
class Budget:
    """When to stop: at whichever limit comes first."""

    trials: int | None = 100
    hours: float | None = None
    target: float | None = None
    """Stop once the objective is at least this good (in its own sign and direction)."""
    patience: int | None = None
    """Stop after this many trials in a row without a new best, or a change of the front."""
    failures: int = 10
    """Stop after this many failed trials in a row."""


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
    extra: bool = False,
) -> Stop | None:
    """Why the search ends after the trials of `history`; None while it goes on.

    `seconds` is the wall-clock time spent so far; `forgiven`, the trials whose failures no longer
    count; `extra`, whether a request waits that is evaluated beyond the budget.
    """
    n = len(history)
    failures = min(trailing_failures(history), n - forgiven)
    if failures >= budget.failures:
        reason = trials[n - 1].reason or ""
        return Stop(reason=StopReason.FAILURES, limit=failures, detail=reason)
    if extra:
        return None
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


def trailing_failures(history: History) -> int:
    """The number of failed trials since the last success."""
    good = np.flatnonzero(~history.failed)
    return len(history) - (int(good[-1]) + 1 if len(good) else 0)


def stagnant_trials(history: History) -> int:
    """The number of trials since the best one, or since the front last changed; 0 without one."""
    best = history.elites(1)
    return len(history) - 1 - int(best[0]) if len(best) else 0
