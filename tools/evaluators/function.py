"""The user's own Python function as the evaluator."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.tools.importing import resolve
from lm_searcher.tools.protocols import Evaluation, Metrics, Report

_NONE = inspect.Parameter.empty
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass
class FunctionEvaluator:
    """Calls ``function(config)`` or ``function(config, budget)``.

    The budget goes to a parameter of that name, or to a second one without a default. The
    function returns the objective, or a dict of metrics that has it. Arguments named `seed`,
    `ncode` or `report` are passed to a function that has them; ``report(step, value)`` answers
    whether to stop early.
    """

    function: str | Callable[..., Any]
    budget: float = 1.0
    metric: str = "value"
    direction: str = "max"
    deterministic: bool = False
    inline: bool = False
    budgets: ClassVar = ("budget",)

    def identity(self) -> dict[str, Any]:
        """See Evaluator."""
        return {"kind": "python", "function": self.name, "budget": self.budget}

    @property
    def name(self) -> str:
        """What the function is called."""
        if isinstance(self.function, str):
            return self.function
        return getattr(self.function, "__qualname__", type(self.function).__name__)

    def prepare(self) -> None:
        """See Evaluator. Raises EvaluatorError if the function does not import."""
        if isinstance(self.function, str):
            self.function = resolve(self.function, "evaluator", EvaluatorError)
        elif not callable(self.function):
            raise EvaluatorError(f"evaluator {self.function!r} is no function")

    def evaluate(self, evaluation: Evaluation, report: Report) -> Metrics:
        """See Evaluator."""
        assert callable(self.function)
        offered = {"seed": evaluation.seed, "ncode": evaluation.ncode, "report": report}
        parameters: Mapping[str, inspect.Parameter] = {}
        with contextlib.suppress(TypeError, ValueError):  # a builtin tells no signature
            parameters = inspect.signature(self.function).parameters
        named = {name: value for name, value in offered.items() if name in parameters}
        places = (p for p in parameters.values() if p.name not in named)
        first = next((p for p in places if p.kind in _POSITIONAL), None)
        arguments: list[Any] = [evaluation.config]
        if first is not None and first.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            named[first.name] = arguments.pop()  # whatever stands before it
        budget = evaluation.budget.get("budget", self.budget)
        for place in places:
            if place.name == "budget" or (place.kind in _POSITIONAL and place.default is _NONE):
                if place.kind is inspect.Parameter.POSITIONAL_ONLY:
                    arguments.append(budget)
                else:
                    named[place.name] = budget
                break
        result: Metrics = self.function(*arguments, **named)
        return result
