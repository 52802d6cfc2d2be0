"""Confirmation: the best trials trained again with fresh seeds, and the incumbent by mean.

The best of many noisy measurements is too good to be true. The incumbent is chosen by the mean
over all seeds of each finalist, the search's own included; what is reported of it is the mean
and spread of the fresh seeds alone, which the choice has not flattered as much. Where they are
trained at a higher fidelity than the search's trials, they alone choose. With several
objectives the finalists are those that hold most of the front's hypervolume (front.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lm_searcher.agent.loop.stopping import Interrupted
from lm_searcher.agent.results.front import finalists, fresh_means
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.ncode import NCode
from lm_searcher.spaces.settings import Count, CountOrZero, Positive, SettingsModel, Share
from lm_searcher.tools.protocols import Evaluation

if TYPE_CHECKING:
    from lm_searcher.agent.state import Context

DEFAULT_TOP = 3


class Confirm(SettingsModel):
    """[confirm]: the best architectures are measured again with fresh seeds, which decides on the
    incumbent."""

    ROLE: ClassVar = "confirm"

    top: CountOrZero | None = None
    """How many of the best are confirmed. Default: 3, or 0 where the evaluator is deterministic
    and no full fidelity is given."""
    seeds: Count = 2
    """Fresh seeds for each of them."""
    epochs: Count | None = None
    """Full fidelity of the confirmations, where the search trains for fewer epochs."""
    data_fraction: Share | None = None
    """Full fidelity: share of the training data."""
    width: Positive | None = None
    """Full fidelity: factor on the space's `channels`."""
    budget: Positive | None = None
    """Full fidelity of the user's own function or command."""

    @property
    def full(self) -> dict[str, Any]:
        """Settings of the evaluator at full fidelity, where the search uses others."""
        return self.model_dump(exclude={"top", "seeds"}, exclude_none=True)

    def for_evaluator(self, deterministic: bool) -> Confirm:
        """With the default of `top` filled in."""
        top = 0 if deterministic and not self.full else DEFAULT_TOP
        return self if self.top is not None else self.changed(top=top)


KEY = "confirm:{number:06d}:{repeat:03d}"
FULL = "confirmed at"
"""The attribute that holds the full fidelity of the confirmations, where it is another than the
search's; confirmations at another one are of no account."""


def confirm_top(context: Context) -> None:
    """Train the finalists; each result is stored as it comes, and never measured twice.

    Raises Interrupted if the person asked to stop.
    """
    top, seeds = context.confirm.top, context.confirm.seeds
    if not top:
        return
    done, objectives, trials = (
        context.store.attributes,
        context.store.objectives,
        context.store.trials,
    )
    chosen = (
        finalists(trials, objectives, top)
        if objectives.several
        else best_trials(trials, objectives.sign, top)
    )
    full = dict(context.confirm.full)
    if done.get(FULL, {}) != full:
        context.store.set_attribute(FULL, full)
    tasks: dict[int, tuple[int, int]] = {}

    def evaluations() -> Iterator[Evaluation]:
        for trial in chosen:
            for repeat in range(seeds):
                entry = done.get(KEY.format(number=trial.number, repeat=repeat))
                if entry is not None and entry.get("budget", {}) == full:
                    continue
                if context.interrupted:
                    return
                key = len(tasks)
                context.observe(f"confirming {trial.ncode} with fresh seed {repeat + 1} of {seeds}")
                tasks[key] = (trial.number, repeat)
                seed = context.trial_seed(trial.number, repeat)
                yield replace(context.evaluation(key, trial.ncode, seed), budget=full)

    assert context.executor is not None
    for evaluation, outcome in context.executor.run(evaluations(), lambda *_: False):
        number, repeat = tasks[evaluation.key]
        outcome = objectives.checked(outcome)
        result: dict[str, Any] = {"seed": evaluation.seed, "seconds": round(outcome.seconds, 4)}
        if full:
            result["budget"] = full
        if outcome.reason is None:
            result["metrics"] = dict(outcome.metrics)
            result["value"] = outcome.metrics[objectives.metric]
        else:
            result["reason"] = outcome.reason
        context.store.set_attribute(KEY.format(number=number, repeat=repeat), result)
    if context.interrupted:
        raise Interrupted


def at_full(attributes: Mapping[str, Any]) -> str:
    """The fidelity of the confirmations in words, where it is another than the trials'."""
    settings = ", ".join(f"{k} = {v:g}" for k, v in attributes.get(FULL, {}).items())
    return f" at {settings}" if settings else ""


def best_trials(trials: Sequence[Trial], sign: float, top: int) -> list[Trial]:
    """The `top` best trials measured at full fidelity that keep the constraints, best first,
    earliest among equals."""
    complete = [t for t in trials if t.state is TrialState.COMPLETE and t.value is not None]
    complete = [t for t in complete if t.violation <= 0]
    return sorted(complete, key=lambda t: (-sign * (t.value or 0.0), t.number))[:top]


@dataclass(frozen=True)
class Incumbent:
    """The architecture that the search stands by."""

    number: int
    ncode: NCode
    value: float
    """The objective: mean over fresh seeds where it was confirmed, else the trial's own."""
    spread: float | None
    """Standard deviation over the fresh seeds; None with fewer than two."""
    seeds: int
    """Fresh seeds behind `value`; 0 if it is the trial's own."""
    metrics: Mapping[str, float]
    """Means over the same seeds as `value`."""
    spreads: Mapping[str, float]


def confirmations(attributes: Mapping[str, Any]) -> dict[int, list[dict[str, Any]]]:
    """The results of the confirmations by trial number, those that failed included."""
    found: dict[int, list[dict[str, Any]]] = {}
    full = attributes.get(FULL, {})
    for key in sorted(attributes):
        if key.startswith("confirm:") and attributes[key].get("budget", {}) == full:
            found.setdefault(int(key.split(":")[1]), []).append(attributes[key])
    return found


def find_incumbent(
    trials: Sequence[Trial], attributes: Mapping[str, Any], sign: float
) -> Incumbent | None:
    """The incumbent of a run; None while no trial has completed and kept the constraints.

    Where some were confirmed it is one of those: a mean of several stands above a single value.
    """
    fresh = {
        number: good
        for number, entries in confirmations(attributes).items()
        if (good := [entry for entry in entries if "value" in entry])
    }
    if not fresh:
        best = best_trials(trials, sign, 1)
        return _unconfirmed(best[0]) if best else None

    def mean(number: int) -> tuple[float, int]:
        values = [entry["value"] for entry in fresh[number]]
        if not attributes.get(FULL):  # else the search's own is of a lower fidelity
            values.append(trials[number].value)
        return sign * float(np.mean([v for v in values if v is not None])), -number

    number = max(fresh, key=mean)
    entries = fresh[number]
    metrics, spreads = fresh_means(entries)
    measured = [entry["value"] for entry in entries]
    return Incumbent(
        number=number,
        ncode=trials[number].ncode,
        value=float(np.mean(measured)),
        spread=float(np.std(measured, ddof=1)) if len(measured) > 1 else None,
        seeds=len(measured),
        metrics=metrics,
        spreads=spreads,
    )


def _unconfirmed(trial: Trial) -> Incumbent:
    assert trial.value is not None
    return Incumbent(trial.number, trial.ncode, trial.value, None, 0, trial.metrics, {})
