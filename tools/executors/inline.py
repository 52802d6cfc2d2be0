"""Evaluations in the controller's own process."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator

from lm_searcher.tools.executors.outcome_check import checked_metrics, failure_reason
from lm_searcher.tools.protocols import Evaluation, Evaluator, Outcome

_log = logging.getLogger("lm_searcher.executors")


class InlineExecutor:
    """Evaluates one after the other, for look-ups that need no protection."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        evaluator.prepare()

    def run(
        self, evaluations: Iterable[Evaluation], report: Callable[[Evaluation, int, float], bool]
    ) -> Iterator[tuple[Evaluation, Outcome]]:
        """See Executor."""
        for evaluation in evaluations:
            yield evaluation, self._evaluate(evaluation, report)

    def _evaluate(
        self, evaluation: Evaluation, report: Callable[[Evaluation, int, float], bool]
    ) -> Outcome:
        started, stopped = time.monotonic(), False

        def forward(step: int, value: float) -> bool:
            nonlocal stopped
            stopped = report(evaluation, step, value) or stopped
            return stopped

        try:
            result = self.evaluator.evaluate(evaluation, forward)
            metrics = checked_metrics(result, self.evaluator.metric)
        except Exception as error:  # the evaluation boundary
            reason = failure_reason(error)
            _log.debug("evaluation %d failed: %s", evaluation.key, reason, exc_info=True)
            return Outcome({}, time.monotonic() - started, reason)
        return Outcome(metrics, time.monotonic() - started, stopped=stopped)

    def cancel(self, after: float = 0.0) -> None:
        """See Executor. Does nothing: a look-up ends before anybody could wait for it."""

    def close(self) -> None:
        """See Executor. Does nothing: no evaluation runs outside of `run`."""
