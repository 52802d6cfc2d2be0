"""The arguments of the tools. Descriptions are for the model that calls them.

An argument that is a setting has the bounds and the help of that setting.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from lm_searcher.agent.loop.stopping import Budget
from lm_searcher.agent.loop.tool_calls import EvaluateNCode
from lm_searcher.agent.settings.run_file import (
    ObjectiveEntry,
    ObjectiveSettings,
    RunSettings,
    Settings,
)
from lm_searcher.spaces.settings import NAME
from lm_searcher.spaces.space import Choice
from lm_searcher.tools.data.datasets import NAMES
from lm_searcher.tools.evaluators.table import TableSettings
from lm_searcher.tools.evaluators.training.settings import TrainOptions
from lm_searcher.tools.executors.settings import ExecutorSettings
from lm_searcher.tools.rankers.settings import RankerSettings

DEFAULT_WORKERS: int = ExecutorSettings().workers
DEFAULT_SEED: int = RunSettings().seed

Name = Annotated[str, Field(pattern=f"^{NAME}$", description="Letters, digits, '.', '_', '-'.")]
Run = Annotated[
    Name | None, Field(description="The run's name; left out: the one used or begun last.")
]
Dataset = Literal["digits", "cifar10", "cifar100", "pydoc"]
assert {*NAMES, "pydoc"} == set(get_args(Dataset))


BOUNDS = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}


def setting(model: type[BaseModel], name: str, more: str = "", help: str = "") -> Any:
    """A field with the bounds of a setting, and its help unless there is another `help`; `more` is
    added to it."""
    schema = model.model_json_schema()["properties"][name]
    for choice in schema.get("anyOf", ()):  # an optional setting has its bounds in a choice
        if choice.get("type") != "null":
            schema = {**choice, **schema}
    bounds = {word: schema[key] for key, word in BOUNDS.items() if key in schema}
    text = " ".join(f"{help or schema.get('description', '')} {more}".split())
    return Field(description=text, **bounds)


class Arguments(BaseModel):
    """The arguments of one tool; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Arguments):
    """For tools without arguments."""


class SpaceName(Arguments):
    """For tools about one space."""

    space: Annotated[Name, Field(description="A built-in or a defined space, see list_spaces.")]


class NewPosition(Arguments):
    """One decision of a new space."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    choices: Annotated[
        list[Choice], Field(min_length=1, max_length=36, description="The options, each once.")
    ]
    ordered: Annotated[
        bool | None,
        Field(description="Whether the order means something; rising numbers are ordered anyway."),
    ] = None


class DefineSpace(Arguments):
    """A new space."""

    name: Name
    positions: Annotated[list[NewPosition], Field(min_length=1, max_length=200)]
    replace: Annotated[bool, Field(description="Overwrite a defined space of that name.")] = False


class Objective(Arguments):
    """One of several objectives."""

    metric: Annotated[str, setting(ObjectiveEntry, "metric", "E.g. val_accuracy.")]
    direction: Annotated[Literal["max", "min"], setting(ObjectiveEntry, "direction")]


class StartSearch(Arguments):
    """A new run."""

    space: Annotated[
        Name | None, Field(description="See list_spaces; left out: the table's own space.")
    ] = None
    name: Annotated[Name | None, Field(description="The new run's name; default: made up.")] = None
    space_settings: Annotated[
        dict[str, int | list[int]],
        Field(
            description="Of a built-in space: nb201 and darts take channels and cells, transformer "
            "widths, layers, heads and hidden (lists), lora ranks (a list)."
        ),
    ] = {}
    evaluator: Annotated[
        Literal["train", "table", "python", "lora"],
        Field(description="How an architecture is measured, see list_evaluators."),
    ] = "train"
    dataset: Annotated[Dataset, Field(description="train: what is learned.")] = "digits"
    epochs: Annotated[
        int | None, setting(TrainOptions, "epochs", "train, lora; default: the data set's.")
    ] = None
    task: Annotated[
        Literal["language", "segmentation", "generation"] | None,
        Field(description="lora, with space lora: what the adapted model does."),
    ] = None
    table: Annotated[str | None, Field(description="table: a name of list_evaluators.")] = None
    function: Annotated[
        str | None, Field(description="python: one of list_evaluators' functions.")
    ] = None
    metric: Annotated[
        str | None, setting(ObjectiveSettings, "metric", "A table needs a metric.")
    ] = None
    direction: Annotated[Literal["max", "min"] | None, setting(ObjectiveSettings, "direction")] = (
        None
    )
    ranker: Annotated[str | None, setting(RankerSettings, "name", "Default: local.")] = None
    trials: Annotated[int, setting(Budget, "trials", help="Trials in all.")] = 50
    hours: Annotated[float | None, setting(Budget, "hours")] = None
    target: Annotated[float | None, setting(Budget, "target")] = None
    patience: Annotated[int | None, setting(Budget, "patience")] = None
    workers: Annotated[int, setting(ExecutorSettings, "workers"), Field(le=64)] = DEFAULT_WORKERS
    seed: Annotated[int, setting(RunSettings, "seed")] = DEFAULT_SEED
    objectives: Annotated[
        list[Objective],
        setting(
            Settings, "objectives", "The result is their Pareto front, e.g. of val_accuracy max "
            "and params_m min.",
        ),
    ] = []  # fmt: skip
    constraints: Annotated[
        list[str],
        setting(
            Settings, "constraints", "What is known without training (train: params_m, flops_m) "
            "filters the candidates.",
        ),
    ] = []  # fmt: skip
    known: Annotated[list[str], setting(TableSettings, "known", "table only.")] = []


class OneRun(Arguments):
    """For tools about one run."""

    run: Run = None


class Wait(OneRun):
    """How long to wait for a run."""

    seconds: Annotated[float, Field(gt=0, le=300, description="At most so long.")] = 30.0


class Resume(OneRun):
    """Going on with a run."""

    trials: Annotated[
        int | None, Field(ge=1, description="A new budget in trials, those done included.")
    ] = None


class Best(OneRun):
    """How many of the best."""

    top: Annotated[int, Field(ge=1, le=50)] = 5


class OneNCode(OneRun):
    """An architecture of a run's space."""

    ncode: Annotated[str, Field(description="One digit 0-9a-z a position, see describe_space.")]


class EvaluateInRun(OneRun, EvaluateNCode):
    """The tool that the graph calls too, with the run that it is for."""


class OneOption(OneRun):
    """An option of a run's space."""

    position: Annotated[str, Field(description="The position's name.")]
    choice: Annotated[Choice, Field(description="The option itself, e.g. skip_connect or 64.")]


class SeveralRuns(Arguments):
    """Runs side by side."""

    runs: Annotated[list[Name], Field(min_length=1, max_length=20)]
