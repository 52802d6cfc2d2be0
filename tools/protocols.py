"""The protocols of exchangeable parts: rankers and evaluators; of executors, see
`tools/executors/protocol.py`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lm_searcher.spaces.errors import LMSearcherError
from lm_searcher.spaces.history import History
from lm_searcher.spaces.ncode import Codes, NCode
from lm_searcher.spaces.space import Config
from lm_searcher.spaces.usage import Usage

Ranking = NDArray[np.intp]
"""A permutation of the pool's row numbers, the most promising first."""

Metrics = Mapping[str, float]
"""The results of one evaluation by metric, the objective's included."""

Report = Callable[[int, float], bool]
"""An evaluator calls ``report(step, value)`` after each epoch; steps count from 1. If it returns
True, the evaluator stops and returns the metrics that it has."""


class Ranker(Protocol):
    """Orders candidates, the most promising first."""

    def rank(self, pool: Codes, history: History, *, seed: int) -> Ranking:
        """The order in which to evaluate `pool`, shape [candidates, positions], at least one row.

        Any history is valid: empty, constant, or only failures. The result depends only on the
        arguments, so that a resumed run ranks like an uninterrupted one; state that is kept
        between calls is a cache.
        """
        ...


@runtime_checkable
class BatchRanker(Ranker, Protocol):
    """A ranker that picks several candidates to be evaluated at a time."""

    def rank_batch(self, pool: Codes, history: History, picks: int, *, seed: int) -> Ranking:
        """As `rank`, but each of the first `picks` is chosen as if those before it were pending.

        With one pick it is the order of `rank`.
        """
        ...


@runtime_checkable
class AskingRanker(Ranker, Protocol):
    """A ranker that asks a language model; it counts its usage and checks the model beforehand."""

    usage: Usage
    """Usage of the last call of `rank`."""
    spent: Usage
    """Usage of the whole run, earlier processes included; limits apply to it. A resumed run sets
    it, `rank` adds to it."""
    notes: list[str]
    """Messages for the user; the caller shows each once and removes it."""

    def prepare(self) -> None:
        """Check the model; called before a search starts or resumes and before it writes anything.

        Raises RankerError for a model, key or server that does not work. `rank` raises it too, if
        further requests are useless and a fallback would hide the cause.
        """
        ...

    def cancel(self) -> None:
        """Make `rank` raise Cancelled: a waiting call soon, later ones at once, until `prepare` is
        called again. Safe to call in a signal handler."""
        ...


@dataclass(frozen=True)
class Objective:
    """A search's objective as a language-model ranker describes it."""

    metric: str = "value"
    direction: str = "max"
    """`max` or `min`, of the metric; the scores of a History are always higher-is-better."""
    picks: int = 1
    """Number of candidates that are picked from a ranking."""
    parts: tuple[tuple[str, str], ...] = ()
    """Metric and direction of each of several objectives; `metric` is then their weighted score,
    with new weights at each step."""
    constraints: tuple[str, ...] = ()
    """Bounds on metrics; an architecture that violates one scores below all that do not."""


class Cancelled(LMSearcherError):
    """The user ended the evaluation or request; this is no failure."""


@dataclass(frozen=True)
class Evaluation:
    """One architecture to evaluate: the whole input of an evaluator."""

    key: int
    """Identifies the evaluation in its run: the trial's number; below 0 for confirmations."""
    ncode: NCode
    config: Config
    seed: int
    budget: Mapping[str, Any] = field(default_factory=dict)
    """Evaluator settings that differ for this evaluation: the full fidelity of a confirmation.
    Only settings that the evaluator lists in its attribute `budgets`, if it has one."""

    @property
    def number(self) -> int:
        """The trial's number, which `tell` takes."""
        return self.key


class Evaluator(Protocol):
    """Measures one architecture.

    It is sent to worker processes by cloudpickle, unless it is `inline`.
    """

    metric: str
    """The objective, unless the run file names another metric."""
    deterministic: bool
    """Whether the result is the same for every seed; then trials are not confirmed."""
    inline: bool
    """Whether `evaluate` is safe and cheap enough to run in the controller's process."""

    @property
    def direction(self) -> str:
        """`max` or `min`, unless the run file names another direction."""
        ...

    def identity(self) -> dict[str, Any]:
        """Everything that must stay the same within a run for its values to be comparable."""
        ...

    def prepare(self) -> None:
        """Load modules and data; called once in each worker process. Raises UserError.

        Trials are forked from the worker afterwards, so it must not start threads or initialise
        an accelerator.
        """
        ...

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        """The metrics of one architecture. Any exception makes the trial fail; see TrialFailure."""
        ...


@runtime_checkable
class CostedEvaluator(Evaluator, Protocol):
    """An evaluator that computes some metrics (costs) of an architecture without evaluating it."""

    def costs(self, codes: Codes, metrics: Collection[str]) -> Mapping[str, NDArray[np.float64]]:
        """The costs among `metrics`, each of shape [n], NaN where a cost cannot be computed.

        The names do not depend on the codes. Called in the controller, without `prepare`. Raises
        UserError.
        """
        ...


@runtime_checkable
class SlowlyPreparedEvaluator(Evaluator, Protocol):
    """An evaluator whose `prepare` may take minutes."""

    @property
    def note(self) -> str:
        """A message for the user before `prepare` is called; empty for none."""
        ...


@dataclass(frozen=True)
class Outcome:
    """The result of an evaluation: metrics, or the reason of its failure."""

    metrics: Metrics
    seconds: float
    reason: str | None = None
    stopped: bool = False
    """Stopped early by the controller; the metrics are of less than the full budget."""
