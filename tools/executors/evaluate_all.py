"""Evaluations one after the other as places permit, where nothing is decided in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from lm_searcher.tools.executors.protocol import Ended, Executor, Reported
from lm_searcher.tools.protocols import Evaluation, Outcome


def evaluate_all(
    executor: Executor,
    evaluations: Iterable[Evaluation],
    report: Callable[[Evaluation, int, float], bool] = lambda evaluation, step, value: False,
) -> Iterator[tuple[Evaluation, Outcome]]:
    """Evaluate, and yield each with its outcome as it ends. `report` says whether to stop.

    An evaluation whose place was lost is not repeated: its outcome is a failure. Raises Cancelled
    after `cancel`.
    """
    queue, running = iter(evaluations), dict[int, Evaluation]()
    while True:
        while executor.room() and (following := next(queue, None)) is not None:
            running[following.key] = following
            executor.submit(following)
        if not running:
            return
        for event in executor.poll(timeout=60.0):
            if isinstance(event, Reported):
                if report(running[event.key], event.step, event.value):
                    executor.stop(event.key)
            elif isinstance(event, Ended):
                yield running.pop(event.key), event.outcome or Outcome({}, 0.0, event.lost)
