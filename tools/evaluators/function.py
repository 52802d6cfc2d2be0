"""The user's own Python function as the evaluator."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.evaluators.settings import OwnEvaluatorSettings, RunInfo
from lm_searcher.tools.importing import resolve
from lm_searcher.tools.protocols import Evaluation, Metrics, Report

_NONE = inspect.Parameter.empty
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class PythonSettings(OwnEvaluatorSettings):
    """[evaluator] kind = "python": the user's function."""

    kind: Literal["python"] = "python"
    function: str
    """ "module:function", called as function(config) or function(config, budget)."""

    def make(self, space: SearchSpace, run: RunInfo) -> FunctionEvaluator:
        """See EvaluatorSettings."""
        return FunctionEvaluator(**self.model_dump(exclude={"kind"}))


class FunctionEvaluator:
    """Calls ``function(config)`` or ``function(config, budget)``.

    The budget is passed to a parameter of that name, or to a second parameter without a default.
    The function returns the objective, or a dict of metrics that includes the objective.
    Parameters named `seed`, `ncode` or `report` are filled in; ``report(step, value)`` returns
    whether to stop early. `inline` calls the function in the controller's own process. `settings`
    are keys of PythonSettings. Raises ConfigError.
    """

    budgets: ClassVar = ("budget",)

    def __init__(
        self,
        function: str | Callable[..., Any],
        *,
        direction: str = "max",
        inline: bool = False,
        **settings: Any,
    ) -> None:
        self.function, self.direction, self.inline = function, direction, inline
        self.name = _name(function)
        """What the function is called, the same before and after it is imported."""
        checked = PythonSettings(function=self.name, **settings)
        self.budget, self.metric = checked.budget, checked.metric
        self.deterministic = checked.deterministic

    def identity(self) -> dict[str, Any]:
        """See Evaluator."""
        return {"kind": "python", "function": self.name, "budget": self.budget}

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


def _name(function: str | Callable[..., Any]) -> str:
    if isinstance(function, str):
        return function
    return getattr(function, "__qualname__", type(function).__name__)
