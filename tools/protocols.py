"""The three things that are swapped: what ranks, what measures, and what runs the measuring."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
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
"""What one evaluation measured, by name; the objective's metric is among them."""

Report = Callable[[int, float], bool]
"""Called by an evaluator as ``report(step, value)`` after each epoch, steps from 1. True means
that the trial is to stop here: return what has been measured so far."""


class Ranker(Protocol):
    """Orders candidates by promise."""

    def rank(self, pool: Codes, history: History, *, seed: int) -> Ranking:
        """The order in which to evaluate `pool` (shape [candidates, positions], at least one).

        A permutation, whatever the history: empty, constant, or failures only. It depends on
        nothing but the arguments, so that a resumed run ranks as an uninterrupted one would;
        what an implementation keeps between calls is a cache.
        """
        ...


@runtime_checkable
class SequentialRanker(Ranker, Protocol):
    """A ranker that is asked again for each pick of a batch, the picks before it then pending."""

    sequential: bool


@runtime_checkable
class AskingRanker(Ranker, Protocol):
    """A Ranker that asks a model: it keeps accounts, and finds out beforehand if it can."""

    usage: Usage
    """What the latest call of `rank` took."""
    spent: Usage
    """What all calls took, those of earlier processes of the run too: limits count from it.
    A run that goes on sets it; `rank` adds to it."""
    notes: list[str]
    """What a person should be told once; whoever tells it takes it out."""

    def prepare(self) -> None:
        """Called before a search begins or goes on, before anything is written.

        Raises RankerError for a model, a key or a server that cannot do. A ranker raises it
        from `rank` too, where asking on is of no use and a fallback would hide that.
        """
        ...

    def cancel(self) -> None:
        """Make a call of `rank` that waits for an answer raise Cancelled soon, and later ones
        at once, until `prepare` is called. Safe to call in a signal handler."""
        ...


@dataclass(frozen=True)
class Objective:
    """What a ranker that reads words is told of the search besides its space."""

    metric: str = "value"
    direction: str = "max"
    """`max` or `min`, of the metric; a History's scores are higher-is-better all the same."""
    picks: int = 1
    """How many of a ranking's first are used at a time."""
    parts: tuple[tuple[str, str], ...] = ()
    """Of several objectives each metric with its direction: `metric` is then a score that weighs
    them, with other weights at each step."""
    constraints: tuple[str, ...] = ()
    """Bounds on metrics; what oversteps one has a score below all that do not."""


class Cancelled(LMSearcherError):
    """What was under way was ended by the person; it is no failure."""


@dataclass(frozen=True)
class Evaluation:
    """One architecture to measure: all that an evaluator gets."""

    key: int
    """Names the evaluation among those running; the trial's number, or a confirmation's."""
    ncode: NCode
    config: Config
    seed: int
    budget: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the evaluator that this evaluation has otherwise: the full fidelity of a
    confirmation. Only those that the evaluator names in `budgets`, if it has that."""

    @property
    def number(self) -> int:
        """The trial's number, as `ask` gives it and `tell` takes it."""
        return self.key


class Evaluator(Protocol):
    """Measures one architecture.

    It is pickled (cloudpickle) to its worker processes unless it is `inline`.
    """

    metric: str
    """The metric that is the objective unless the run file names another."""
    deterministic: bool
    """Whether a second evaluation would only repeat the first; then nothing is confirmed."""
    inline: bool
    """Whether it is safe and cheap enough to be called in the controller's own process."""

    @property
    def direction(self) -> str:
        """`max` or `min`: what is better, unless the run file says otherwise."""
        ...

    def identity(self) -> dict[str, Any]:
        """What must not change within a run for its values to be comparable."""
        ...

    def prepare(self) -> None:
        """Load modules and data, once a worker process; raises UserError if that fails.

        Trials are forked from the worker after this, so it must not start threads or
        initialise an accelerator.
        """
        ...

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        """Measure. Raises TrialFailure, or anything else, for a failed trial."""
        ...


@runtime_checkable
class CostedEvaluator(Evaluator, Protocol):
    """An evaluator that knows some metrics of an architecture before it is measured."""

    def costs(self, codes: Codes, metrics: Collection[str]) -> Mapping[str, NDArray[np.float64]]:
        """Those of `metrics` that are known of each architecture, each of shape [n].

        The same names for whichever codes; NaN for an architecture of which one cannot be told.
        Called in the controller, without `prepare`. Raises UserError.
        """
        ...


@runtime_checkable
class SlowlyPreparedEvaluator(Evaluator, Protocol):
    """An evaluator whose `prepare` may take long."""

    @property
    def note(self) -> str:
        """What a person should be told before `prepare` is called; empty: nothing."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What became of an evaluation: metrics, or the reason why there are none."""

    metrics: Metrics
    seconds: float
    reason: str | None = None
    stopped: bool = False
    """Stopped early at the controller's word; the metrics are of less than the full budget."""


class Executor(Protocol):
    """Runs evaluations, several at once."""

    def run(
        self, evaluations: Iterable[Evaluation], report: Callable[[Evaluation, int, float], bool]
    ) -> Iterator[tuple[Evaluation, Outcome]]:
        """Yield each evaluation with its outcome as it finishes, in any order.

        Raises Cancelled after `cancel`.
        """
        ...

    def cancel(self, after: float = 0.0) -> None:
        """Give what runs `after` seconds to finish. Safe to call in a signal handler."""
        ...

    def close(self) -> None:
        """End everything that still runs, at once, and wait until it is gone."""
        ...
