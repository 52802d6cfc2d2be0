"""The incumbent: the architecture that a run with one objective recommends.

Without confirmations it is the best trial. With confirmations it is the confirmed trial with the
best mean over all its seeds, the search's own value included, unless the confirmations were
trained at another fidelity than the search. The reported value is the mean over the fresh seeds
alone, because the choice biases the search's own value upwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lm_searcher.agent.results.front import fresh_means
from lm_searcher.agent.study.run_records import RunRecords
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.ncode import NCode


def best_trials(trials: Sequence[Trial], sign: float, top: int) -> list[Trial]:
    """The `top` best complete and feasible trials, best first, the earliest among equals.

    `sign` is 1 to maximise the objective, -1 to minimise it.
    """
    complete = [t for t in trials if t.state is TrialState.COMPLETE and t.value is not None]
    complete = [t for t in complete if t.violation <= 0]
    return sorted(complete, key=lambda t: (-sign * (t.value or 0.0), t.number))[:top]


@dataclass(frozen=True)
class Incumbent:
    """The architecture that a run recommends."""

    number: int
    ncode: NCode
    value: float
    """The objective: the mean over the fresh seeds, or the trial's own value if not confirmed."""
    spread: float | None
    """Standard deviation over the fresh seeds; None with fewer than two."""
    seeds: int
    """Number of fresh seeds in `value`; 0 if not confirmed."""
    metrics: Mapping[str, float]
    """Each metric's mean over the same seeds as `value`."""
    spreads: Mapping[str, float]
    """Each metric's standard deviation over the fresh seeds; empty with fewer than two."""


def find_incumbent(trials: Sequence[Trial], records: RunRecords, sign: float) -> Incumbent | None:
    """The incumbent of a run; None while no feasible trial has completed.

    Once a trial is confirmed, only confirmed trials are considered: a mean over several seeds is
    better evidence than a single value.
    """
    fresh = {
        number: succeeded
        for number, entries in records.confirmed().items()
        if (succeeded := [entry for entry in entries if entry.value is not None])
    }
    if not fresh:
        best = best_trials(trials, sign, 1)
        return _unconfirmed(best[0]) if best else None

    def mean(number: int) -> tuple[float, int]:
        values = [entry.value for entry in fresh[number]]
        if not records.full:  # otherwise the trial was measured at a lower fidelity
            values.append(trials[number].value)
        return sign * float(np.mean([v for v in values if v is not None])), -number

    number = max(fresh, key=mean)
    metrics, spreads = fresh_means(fresh[number])
    values = [entry.value for entry in fresh[number] if entry.value is not None]
    return Incumbent(
        number=number,
        ncode=trials[number].ncode,
        value=float(np.mean(values)),
        spread=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        seeds=len(values),
        metrics=metrics,
        spreads=spreads,
    )


def _unconfirmed(trial: Trial) -> Incumbent:
    assert trial.value is not None
    return Incumbent(trial.number, trial.ncode, trial.value, None, 0, trial.metrics, {})
