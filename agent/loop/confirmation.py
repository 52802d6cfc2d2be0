"""Confirmation: the best trials trained again with fresh seeds, and the incumbent by mean.

The best of many noisy measurements is too good to be true. The incumbent is chosen by the mean
over all seeds of each finalist, the search's own included; what is reported of it is the mean
and spread of the fresh seeds alone, which the choice has not flattered as much. Where they are
trained at a higher fidelity than the search's trials, they alone choose. With several
objectives the finalists are those that hold most of the front's hypervolume (front.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lm_searcher.agent.loop.stopping import Interrupted
from lm_searcher.agent.results.front import finalists
from lm_searcher.agent.results.incumbent import FULL, best_trials
from lm_searcher.agent.state import Context
from lm_searcher.tools.protocols import Evaluation

KEY = "confirm:{number:06d}:{repeat:03d}"


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
