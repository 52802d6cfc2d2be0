"""[evaluator]: the settings of an evaluator, and the evaluators by the name of their kind."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, SerializeAsAny
from pydantic_core import PydanticCustomError

from lm_searcher.spaces.errors import EvaluatorError, unknown
from lm_searcher.spaces.registry import Registry
from lm_searcher.spaces.settings import NOT_A_CHOICE, Positive, SettingsModel
from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Evaluator


@dataclass(frozen=True)
class RunInfo:
    """What an evaluator may need to know about the run that it measures for."""

    metric: str | None = None
    """The first objective; None leaves the choice to the evaluator."""
    folder: Path = Path("runs")
    """Where runs are kept."""


class EvaluatorSettings(SettingsModel):
    """[evaluator]: how an architecture is measured."""

    kind: str = ""
    """Which evaluator; each kind has keys of its own."""

    @abstractmethod
    def make(self, space: SearchSpace, run: RunInfo) -> Evaluator:
        """The evaluator for `space`. Raises UserError for settings that cannot work."""

    def space_defaults(self, space: str) -> Mapping[str, Any]:
        """Settings of the built-in `space` that suit this evaluator, where the user gives none."""
        return {}


class OwnEvaluatorSettings(EvaluatorSettings):
    """What evaluators of the user's own code have in common."""

    ROLE: ClassVar = "evaluator"

    budget: Positive = 1.0
    """Passed to the user's code as it is; its unit is the user's."""
    metric: str = "value"
    """The objective, unless [objective] names another. The code returns a value by this name."""
    deterministic: bool = True
    """Whether a second measurement would only repeat the first. Set it to false if results vary
    with the seed: then the best architectures are confirmed with fresh seeds."""


_HERE = "lm_searcher.tools.evaluators"
EVALUATORS: Registry[type[EvaluatorSettings]] = Registry(
    "kind",
    "lm_searcher.evaluators",
    {
        "train": f"{_HERE}.training.section:TrainSettings",
        "table": f"{_HERE}.table:TableSettings",
        "python": f"{_HERE}.function:PythonSettings",
        "command": f"{_HERE}.command:CommandSettings",
        "lora": f"{_HERE}.lora.section:LoraSettings",
    },
    EvaluatorError,
)
"""A new evaluator is one file and one line: its EvaluatorSettings, which make it."""


def evaluator_settings(given: Any) -> Any:
    """The settings of a section [evaluator], by its `kind`.

    Raises pydantic's errors. What is no table is returned as it is, for pydantic to refuse.
    """
    if not isinstance(given, Mapping):
        return given
    kind = given.get("kind")
    if kind is None:
        accepted = ", ".join(sorted(EVALUATORS))
        raise PydanticCustomError(
            NOT_A_CHOICE, "{message}", {"message": f"kind is missing (accepted: {accepted})"}
        )
    if kind not in EVALUATORS:
        context = {"message": unknown("kind", str(kind), EVALUATORS)}
        raise PydanticCustomError(NOT_A_CHOICE, "{message}", context)
    return EVALUATORS[kind].model_validate(given)


EvaluatorChoice = Annotated[SerializeAsAny[EvaluatorSettings], BeforeValidator(evaluator_settings)]
"""The field [evaluator]: the settings of the evaluator that `kind` names."""
