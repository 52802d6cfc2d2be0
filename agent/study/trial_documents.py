"""Trials as documents of the store: what cannot be derived from the rest, as JSON."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lm_searcher.agent.study.objectives import ObjectiveSet
from lm_searcher.agent.study.tables import to_json
from lm_searcher.spaces.history import Trial, TrialState
from lm_searcher.spaces.usage import Usage
from lm_searcher.tools.protocols import Outcome

STATES = {state.value: state for state in TrialState}
VALUED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Draft:
    """What the document of a trial has beside the trial itself; kept while the trial is pending."""

    ranker: str = ""
    account: Mapping[str, Any] = field(default_factory=dict)
    """Usage of the language model."""
    steps: tuple[int, ...] = ()
    """The step of each point of the curve."""
    marks: Mapping[str, tuple[int, Any]] = field(default_factory=dict)
    """What the pruner keeps with the trial, by name: the step at which it was set, and a value."""


def to_document(trial: Trial, draft: Draft, objectives: ObjectiveSet) -> str:
    """The document of a trial."""
    steps, derived = list(draft.steps), _values(trial.metrics, objectives)
    parts: dict[str, Any] = {
        "seed": trial.seed,
        "ranker": draft.ranker,
        "began": trial.began,
        "ended": trial.ended,
        "seconds": trial.seconds,
        "metrics": dict(trial.metrics),
        "values": list(trial.values) if trial.values != derived else None,
        "reason": trial.reason,
        "fidelity": trial.fidelity if trial.fidelity != 1.0 else None,
        "curve": list(trial.curve),
        "steps": steps if steps != list(range(1, len(steps) + 1)) else None,
        "account": dict(draft.account),
        "pruner": {name: list(mark) for name, mark in draft.marks.items()},
        "place": trial.place,
    }
    return to_json({k: v for k, v in parts.items() if v or v == 0})


def to_row(run: str, trial: Trial, draft: Draft, objectives: ObjectiveSet) -> dict[str, Any]:
    """A trial as a row of its table."""
    return {
        "run": run,
        "number": trial.number,
        "ncode": trial.ncode,
        "state": trial.state.value,
        "attempt": trial.attempt,
        "doc": to_document(trial, draft, objectives),
    }


def _values(metrics: Mapping[str, float], objectives: ObjectiveSet) -> tuple[float, ...]:
    """The objectives among the metrics; empty if one is missing."""
    try:
        return tuple([float(metrics[goal.metric]) for goal in objectives.goals])
    except KeyError:
        return ()


def trial_rows(
    rows: Iterable[Any], objectives: ObjectiveSet
) -> tuple[list[Trial], list[Mapping[str, Any]]]:
    """The trials of the rows (number, ncode, state, attempt, doc), and their documents."""
    collects = gc.isenabled()
    gc.disable()  # all that is made here stays; the search for garbage in it takes a third longer
    try:
        return _trials(list(rows), objectives)
    finally:
        if collects:
            gc.enable()


def _trials(
    rows: list[Any], objectives: ObjectiveSet
) -> tuple[list[Trial], list[Mapping[str, Any]]]:
    documents = json.loads(f"[{','.join([row[4] for row in rows])}]")  # faster than one by one
    return [
        _trial(number, ncode, STATES[state], attempt, document, objectives)
        for (number, ncode, state, attempt, _), document in zip(rows, documents, strict=True)
    ], documents


def _trial(
    number: int,
    ncode: str,
    state: TrialState,
    attempt: int,
    document: Mapping[str, Any],
    objectives: ObjectiveSet,
) -> Trial:
    get, metrics = document.get, document.get("metrics", {})
    values: tuple[float, ...] = ()
    if state in VALUED:
        values = tuple(get("values") or _values(metrics, objectives))
    account = get("account")
    return Trial(
        number=number,
        ncode=ncode,
        state=state,
        value=values[0] if values else None,
        values=values,
        violation=objectives.violation(metrics) if values and objectives.constraints else 0.0,
        metrics=metrics,
        seed=get("seed", 0),
        fidelity=get("fidelity", 1.0),
        reason=get("reason"),
        seconds=get("seconds"),
        curve=tuple(get("curve", ())),
        usage=Usage.of(account) if account else None,
        attempt=attempt,
        place=get("place", ""),
        began=get("began"),
        ended=get("ended"),
    )


def to_draft(document: Mapping[str, Any]) -> Draft:
    """What a trial's document has beside the trial."""
    return Draft(
        ranker=document.get("ranker", ""),
        account=document.get("account", {}),
        steps=steps_of(document),
        marks={name: (step, v) for name, (step, v) in document.get("pruner", {}).items()},
    )


def steps_of(document: Mapping[str, Any]) -> tuple[int, ...]:
    """The step of each point of a document's curve."""
    curve = document.get("curve", ())
    return tuple(document.get("steps") or range(1, len(curve) + 1))


def ended(
    trial: Trial, outcome: Outcome, fidelity: float, objectives: ObjectiveSet, now: float
) -> Trial:
    """A pending trial with its outcome, ended now; one without all metrics has failed."""
    outcome = objectives.checked(outcome)
    values = objectives.values(outcome.metrics) if outcome.reason is None else ()
    state = TrialState.PRUNED if outcome.stopped else TrialState.COMPLETE
    return replace(
        trial,
        state=state if values else TrialState.FAIL,
        value=values[0] if values else None,
        values=values,
        violation=objectives.violation(outcome.metrics) if values else 0.0,
        metrics=dict(outcome.metrics),
        fidelity=fidelity,
        reason=outcome.reason,
        seconds=round(outcome.seconds, 4),
        began=now if trial.began is None else trial.began,
        ended=now,
    )
