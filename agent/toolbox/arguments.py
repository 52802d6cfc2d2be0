"""What the tools take. Descriptions are for the model that calls them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from lm_searcher.spaces.settings import NAME
from lm_searcher.spaces.space import Choice
from lm_searcher.tools.data.datasets import NAMES

Name = Annotated[str, Field(pattern=f"^{NAME}$", description="Letters, digits, '.', '_', '-'.")]
Run = Annotated[
    Name | None, Field(description="The run's name; left out: the one used or begun last.")
]
Dataset = Literal["digits", "cifar10", "cifar100", "pydoc"]
assert {*NAMES, "pydoc"} == set(Dataset.__args__)  # type: ignore[attr-defined]


class Arguments(BaseModel):
    """The arguments of one tool; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Arguments):
    """For tools that take none."""


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

    metric: Annotated[str, Field(description="A metric of the evaluator, e.g. val_accuracy.")]
    direction: Annotated[Literal["max", "min"], Field(description="What is better.")]


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
        int | None, Field(ge=1, description="train: epochs a trial; default: the data set's.")
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
        str | None,
        Field(description="The objective; default: the evaluator's. A table needs one."),
    ] = None
    direction: Annotated[
        Literal["max", "min"] | None, Field(description="Default: the evaluator's.")
    ] = None
    ranker: Annotated[str | None, Field(description="Who picks; default: local.")] = None
    trials: Annotated[int, Field(ge=1, description="Architectures to train.")] = 50
    hours: Annotated[float | None, Field(gt=0, description="Wall-clock limit.")] = None
    target: Annotated[float | None, Field(description="Stop at this objective.")] = None
    patience: Annotated[
        int | None, Field(ge=1, description="Stop after so many trials without a new best.")
    ] = None
    workers: Annotated[int, Field(ge=1, le=64, description="Trials at once.")] = 1
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    objectives: Annotated[
        list[Objective],
        Field(
            description="Several, in place of metric and direction: the result is their Pareto "
            "front. E.g. val_accuracy max with params_m min."
        ),
    ] = []
    constraints: Annotated[
        list[str],
        Field(
            description="Bounds on metrics, e.g. 'params_m <= 0.1'. What is known without "
            "training (train: params_m, flops_m) filters the candidates."
        ),
    ] = []
    known: Annotated[
        list[str],
        Field(description="table: metrics that may be looked up before an evaluation."),
    ] = []


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


class OneOption(OneRun):
    """An option of a run's space."""

    position: Annotated[str, Field(description="The position's name.")]
    choice: Annotated[Choice, Field(description="The option itself, e.g. skip_connect or 64.")]


class SeveralRuns(Arguments):
    """Runs side by side."""

    runs: Annotated[list[Name], Field(min_length=1, max_length=20)]
