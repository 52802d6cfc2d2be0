"""Metrics that are computed from an architecture and what was measured of it."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Collection, Mapping
from typing import Any

from lm_searcher.spaces.registry import Registry
from lm_searcher.spaces.space import Config
from lm_searcher.tools.protocols import Evaluation, Evaluator, Metrics, Report

DerivedMetric = Callable[[Config, Mapping[str, float]], float]
"""``metric(config, metrics)``: a value in the user's own sign and unit."""

METRICS: Registry[DerivedMetric] = Registry("metric", "lm_searcher.metrics", {})
"""Derived metrics by name. Objectives and constraints name them like an evaluator's metrics."""


class DerivedMetricsEvaluator:
    """An evaluator whose measurements are completed by the metrics `names` of METRICS.

    A metric that the evaluator gives itself is left as it is. `metric` is the objective.
    """

    def __init__(self, evaluator: Evaluator, names: tuple[str, ...], metric: str) -> None:
        self.evaluator, self.names, self.metric = evaluator, names, metric
        self.deterministic, self.inline = evaluator.deterministic, evaluator.inline
        self.direction = evaluator.direction

    def identity(self) -> dict[str, Any]:
        """See Evaluator."""
        return self.evaluator.identity()

    def prepare(self) -> None:
        """See Evaluator. Raises ConfigError for a metric that cannot be loaded."""
        self.evaluator.prepare()
        for name in self.names:
            _ = METRICS[name]

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        """See Evaluator."""
        measured: Any = self.evaluator.evaluate(evaluation, report)
        if isinstance(measured, numbers.Real):  # a user's function may return the objective alone
            measured = {self.evaluator.metric: measured}
        if isinstance(measured, dict):  # the executor refuses anything else
            missing = [name for name in self.names if name not in measured]
            values = {name: METRICS[name](evaluation.config, measured) for name in missing}
            measured = {**measured, **values}
        metrics: Metrics = measured
        return metrics


def derived(evaluator: Evaluator, metrics: Collection[str]) -> tuple[str, ...]:
    """Those of `metrics` that are derived from what `evaluator` measures."""
    return tuple(name for name in metrics if name != evaluator.metric and name in METRICS)


def with_derived(evaluator: Evaluator, metric: str, metrics: Collection[str]) -> Evaluator:
    """The evaluator that gives all of `metrics`, of which `metric` is the objective."""
    names = derived(evaluator, metrics)
    return DerivedMetricsEvaluator(evaluator, names, metric) if names else evaluator
