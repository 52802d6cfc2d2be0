"""Evaluations, reports and outcomes as the text that the queue has of them."""

from __future__ import annotations

import json

from lm_searcher.tools.executors.protocol import Ended, Reported
from lm_searcher.tools.protocols import Evaluation, Outcome


def evaluation_text(evaluation: Evaluation) -> str:
    """An evaluation, without its key."""
    return json.dumps(
        {
            "ncode": evaluation.ncode,
            "config": evaluation.config,
            "seed": evaluation.seed,
            "budget": dict(evaluation.budget),
        }
    )


def evaluation_of(key: int, text: str) -> Evaluation:
    """The evaluation of that key."""
    return Evaluation(key, **json.loads(text))


def report_text(step: int, value: float) -> str:
    """A report, to be appended to the earlier ones of its evaluation."""
    return f"{step} {value!r}\n"


def reports_of(key: int, text: str, seen: int) -> list[Reported]:
    """The reports of an evaluation after the first `seen`."""
    lines = (line.split() for line in text.splitlines()[seen:])
    return [Reported(key, int(step), float(value)) for step, value in lines]


def outcome_text(outcome: Outcome | None, lost: str = "") -> str:
    """An outcome, or why the place was lost."""
    if outcome is None:
        return json.dumps({"lost": lost})
    return json.dumps(
        {
            "metrics": dict(outcome.metrics),
            "seconds": outcome.seconds,
            "reason": outcome.reason,
            "stopped": outcome.stopped,
        }
    )


def ended_of(key: int, attempt: int, text: str) -> Ended:
    """The end of an evaluation."""
    stored = json.loads(text)
    if "lost" in stored:
        return Ended(key, None, stored["lost"], attempt)
    return Ended(key, Outcome(**stored), attempt=attempt)
