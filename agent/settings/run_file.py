"""Run files: TOML, every key with its default, checked before anything starts.

Defaults < file < command-line flags. Nothing comes from the environment.
"""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from lm_searcher.spaces.constraints import Constraint
from lm_searcher.spaces.errors import ConfigError, unknown

Count = Annotated[int, Field(ge=1, strict=True)]
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(gt=0, le=1, strict=True)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]


class Section(BaseModel):
    """A table of the run file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SpaceSection(Section):
    """[space]: a built-in space by `name` or a TOML file by `path`, never both."""

    model_config = ConfigDict(extra="allow", frozen=True)  # a built-in space's own settings

    name: str | None = None
    path: Path | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The keys that go to the built-in space: channels, cells, ..."""
        return dict(self.model_extra or {})


class TrainSection(Section):
    """[evaluator] kind = "train": build the PyTorch model and train it."""

    kind: Literal["train"]
    dataset: str = "digits"
    """digits, cifar10, cifar100, folder, pydoc, text, or "module:function"."""
    folder: Path | None = None
    """Where CIFAR's python folder lies, or the images of dataset "folder"; for text a file, or a
    folder of files *.txt."""
    image_size: Count | None = None
    """Dataset "folder": the side in pixels to which images are resized and cut."""
    cache: Path | None = None
    """Dataset "folder": where decoded images are kept; default: .images in the folder of runs."""
    epochs: Count | None = None
    batch_size: Count | None = None
    learning_rate: Positive | None = None
    weight_decay: NotNegative | None = None
    optimizer: Literal["sgd", "adamw"] | None = None
    steps: Count | None = None
    """Text only: batches an epoch."""
    context: Count | None = None
    """Text only: bytes that the model sees at a time."""
    label_smoothing: NotNegative | None = None
    augment: bool | None = None
    cutout: Annotated[int, Field(ge=0, strict=True)] | None = None
    gradient_clip: NotNegative | None = None
    auxiliary_weight: NotNegative | None = None
    warmup: Annotated[int, Field(ge=0, strict=True)] | None = None
    data_fraction: Share | None = None
    width: Positive | None = None
    compile: bool = False
    cuda_graph: bool = False
    latency: bool = False
    """Measure latency_ms, one image through the trained model."""

    @model_validator(mode="after")
    def _images(self) -> TrainSection:
        if self.dataset != "folder":
            if self.image_size is not None or self.cache is not None:
                raise ValueError('image_size and cache go with dataset = "folder" only')
        elif self.folder is None or self.image_size is None:
            raise ValueError(
                'dataset = "folder" needs folder = "PATH" and image_size = PIXELS, as 224'
            )
        return self


class TableSection(Section):
    """[evaluator] kind = "table": look the architecture up."""

    kind: Literal["table"]
    path: Path
    metric: str | None = None
    """Default: the first objective."""
    join: list[Path] = []
    """Tables of the same architectures that have more metrics."""
    known: list[str] = []
    """Metrics that may be looked up beforehand: their constraints filter the pool."""
    positions: list[str] | None = None
    """CSV only: the columns that are decisions; default: all left of the metric."""


class PythonSection(Section):
    """[evaluator] kind = "python": the user's function."""

    kind: Literal["python"]
    function: str
    """ "module:function", called as function(config) or function(config, budget)."""
    budget: Positive = 1.0
    metric: str = "value"
    deterministic: bool = True
    """false: results vary with the seed, so the best are confirmed by default."""


class CommandSection(Section):
    """[evaluator] kind = "command": the user's shell command."""

    kind: Literal["command"]
    command: str | list[str]
    budget: Positive = 1.0
    metric: str = "value"
    deterministic: bool = True


class LoraSection(Section):
    """[evaluator] kind = "lora": adapters on the base of the space "lora"."""

    kind: Literal["lora"]
    task: str = "language"
    """language, segmentation, generation: what the adapted model does, and its score."""
    folder: Path | None = None
    """The user's own data; default: what comes with the package's dependencies."""
    epochs: Count | None = None
    batch_size: Count | None = None
    learning_rate: Positive | None = None
    metric: str | None = None
    cache: Path | None = None
    """Where trained embedded bases are kept; default: the user's cache directory."""
    gradient_checkpointing: bool = False
    context: Count | None = None
    """language only: tokens in a block of text."""
    classes: Annotated[int, Field(ge=2, le=255, strict=True)] | None = None
    """segmentation only: how many the masks have, the background included."""
    train_head: bool | None = None
    """segmentation only: whether the mask decoder or decode head learns along."""
    clip: Path | None = None
    """generation only: the directory of a CLIP model that scores samples."""
    image_size: Count | None = None
    """generation only: height and width in pixels; default: what the pipeline was made for."""


EvaluatorSection = Annotated[
    TrainSection | TableSection | PythonSection | CommandSection | LoraSection,
    Field(discriminator="kind"),
]


class ObjectiveSection(Section):
    """[objective]: which metric, and what is better; the evaluator's own by default."""

    metric: str | None = None
    direction: Literal["max", "min"] | None = None


class ObjectiveEntry(Section):
    """[[objectives]]: one of several; the result is their Pareto front."""

    metric: str
    direction: Literal["max", "min"]


class RankerSection(Section):
    """[ranker]: who picks, from how large a pool, after how many random trials."""

    name: str = "local"
    initial: Annotated[int, Field(ge=0, strict=True)] = 5
    pool: Count = 1000
    """Candidates drawn a step in a space too large to be the pool whole (20,000)."""
    weights: Path | None = None
    """local only: a folder that `train-ranker incontext` wrote; default: those shipped."""

    # What follows is for rankers that ask a model; each takes those that it has a use for.
    prompt: Literal["ncode", "semantic"] | None = None
    mode: Literal["score", "generate"] | None = None
    candidates: Count | None = None
    listed: Count | None = None
    context: Count | None = None
    fallback: str | None = None
    key_env: str | None = None
    timeout: Positive | None = None
    attempts: Count | None = None
    retry_seconds: NotNegative | None = None
    backoff: NotNegative | None = None
    reply_tokens: Count | None = None
    max_tokens_total: Count | None = None
    max_cost: Positive | None = None
    price_in: NotNegative | None = None
    price_out: NotNegative | None = None

    @model_validator(mode="after")
    def _local_weights(self) -> RankerSection:
        if self.weights is not None and self.name != "local":
            raise ValueError(f"weights is a setting of ranker 'local', the ranker is '{self.name}'")
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """The keys that go to the ranker, where given."""
        return self.model_dump(exclude={"name", "initial", "pool"}, exclude_none=True)


class BudgetSection(Section):
    """[budget]: the search ends at whichever limit comes first."""

    trials: Count | None = None
    """Default 100, unless `hours` is given."""
    hours: Positive | None = None
    target: Annotated[float, Field(allow_inf_nan=False, strict=True)] | None = None
    patience: Count | None = None
    failures: Count = 10

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("trials") is None and given.get("hours") is None:
            return given | {"trials": 100}
        return given


class MemorySection(Section):
    """[memory]: pruning of options on evidence; sizes in trials."""

    enabled: bool = True
    start: Count = 20
    interval: Count = 10
    width: Positive = 2.5
    elites: Count = 10
    stagnation: Count = 30


class ConfirmSection(Section):
    """[confirm]: the best trained again with fresh seeds."""

    top: Annotated[int, Field(ge=0, strict=True)] | None = None
    """Default 3, or 0 where the evaluator is deterministic."""
    seeds: Count = 2

    # Full fidelity, where the search trains with less.
    epochs: Count | None = None
    data_fraction: Share | None = None
    width: Positive | None = None
    budget: Positive | None = None

    @property
    def full(self) -> dict[str, Any]:
        """What the evaluator's own budget is replaced by."""
        return self.model_dump(exclude={"top", "seeds"}, exclude_none=True)


class ExecutorSection(Section):
    """[executor]: where and how evaluations run."""

    workers: Count = 1
    batch: Count | None = None
    """Trials picked at a time; default: one a worker."""
    seconds: Positive | None = None
    """Wall-clock limit of a trial."""
    memory_gb: Positive | None = None
    """Limit of a trial's memory; default: an equal share of nine tenths of the machine's,
    none where there is an accelerator."""
    devices: list[str] = []
    """CUDA device numbers, dealt to the workers in turn; default: all."""
    grace: NotNegative = 30.0
    """Seconds that Ctrl-C gives the running trials to finish."""


class PrunerSection(Section):
    """[pruner]: early stopping of trials by an Optuna pruner."""

    name: Literal["none", "successive_halving", "median"] = "none"
    min_resource: Count = 1
    """Epochs before the first decision."""
    reduction_factor: Annotated[int, Field(ge=2, strict=True)] = 3


class StoreSection(Section):
    """[store]: an Optuna storage URL; default: SQLite in the run's folder."""

    url: str | None = None


class RunSection(Section):
    """[run]: the run's name, seed and folder."""

    name: str | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31, strict=True)] = 0
    folder: Path = Path("runs")

    @model_validator(mode="after")
    def _safe_name(self) -> RunSection:
        if self.name is not None and not re.fullmatch(NAME, self.name):
            raise ValueError(
                f"name '{self.name}'; accepted: up to 100 letters, digits, '.', '_' and '-', "
                "a letter or digit first"
            )
        return self


class Settings(Section):
    """Everything about a run but its space and evaluator."""

    objective: ObjectiveSection = ObjectiveSection()
    objectives: list[ObjectiveEntry] = []
    """Several in place of [objective]."""
    constraints: list[str] = []
    """Bounds on metrics, such as "params_m <= 1.0"."""
    ranker: RankerSection = RankerSection()
    budget: BudgetSection = BudgetSection(trials=100)
    memory: MemorySection = MemorySection()
    confirm: ConfirmSection = ConfirmSection()
    executor: ExecutorSection = ExecutorSection()
    pruner: PrunerSection = PrunerSection()
    store: StoreSection = StoreSection()
    run: RunSection = RunSection()

    @model_validator(mode="after")
    def _one_aim(self) -> Settings:
        metrics = [entry.metric for entry in self.objectives]
        if metrics and self.objective != ObjectiveSection():
            raise ValueError("[objective] and objectives are both given; give one of them")
        if twice := [name for name in metrics if metrics.count(name) > 1]:
            raise ValueError(f"objectives: '{twice[0]}' is given twice; each metric once")
        if len(metrics) > 1 and self.budget.target is not None:
            raise ValueError("[budget] target: there is none for several objectives; take patience")
        if len(metrics) > 1 and self.pruner.name != "none":
            raise ValueError("[pruner] name: several objectives tell no trial to stop early by")
        bounds: list[Constraint] = []
        for text in self.constraints:
            try:
                bound = Constraint.parse(text)
            except ConfigError as error:
                raise ValueError(str(error)) from None
            if bound in bounds:
                raise ValueError(f"constraints: '{text}' is given twice")
            bounds.append(bound)
        return self


class RunFile(Settings):
    """A whole run file. `space` may be left out for a table, whose card has it."""

    space: SpaceSection = SpaceSection()
    evaluator: EvaluatorSection

    @model_validator(mode="after")
    def _one_space(self) -> RunFile:
        space = self.space
        if space.name and space.path:
            raise ValueError("[space] has both name and path; give one of them")
        if not space.name and space.settings:
            raise ValueError(
                unknown("key in [space]", next(iter(space.settings)), ["name", "path"])
            )
        if not space.name and not space.path and self.evaluator.kind != "table":
            raise ValueError('[space] is missing; give name = "nb201" or path = "my-space.toml"')
        if self.evaluator.kind == "table" and self.metric is None:
            raise ValueError("[evaluator] metric is missing")
        return self

    @property
    def metric(self) -> str | None:
        """The metric that the search names first; None leaves it to the evaluator."""
        first = self.objectives[0].metric if self.objectives else self.objective.metric
        return first or getattr(self.evaluator, "metric", None)


def load_run_file(path: str | Path, overrides: Mapping[str, Any] = {}) -> RunFile:
    """The run file at `path`, with `overrides` on top: {section: {key: value}}, and the values of
    keys that are in no section; None takes a section away.

    Paths inside the file are taken from the working directory. Raises ConfigError.
    """
    return load_toml(RunFile, "run file", path, overrides)


Model = TypeVar("Model", bound=BaseModel)


def load_toml(
    model: type[Model], what: str, path: str | Path, overrides: Mapping[str, Any]
) -> Model:
    """The TOML file at `path` as a `model`, with `overrides` on top. Raises ConfigError; `what`
    is the kind of file that it names.
    """
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{what} '{path}': {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} '{path}' is no valid TOML: {error}") from None
    for section, values in overrides.items():
        if not isinstance(values, Mapping):
            document[section] = values
            if values is None:
                del document[section]
        elif isinstance(table := document.setdefault(section, {}), dict):
            table.update(values)
    return checked(model, document, f"{what} '{path}'")


def checked(model: type[Model], document: Any, where: str) -> Model:
    """The validated model; raises ConfigError in one line that names the place."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        errors = error.errors()
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise ConfigError(f"{where}: {_line(model, errors[0])}{more}") from None


def _line(model: type[BaseModel], error: ErrorDetails) -> str:
    place = _place(error["loc"])
    key = f"[{place[0]}] {'.'.join(place[1:])}".strip() if place else ""
    if error["type"] == "extra_forbidden":
        keys = _keys(model, error["loc"][:-1])
        section = f"[{'.'.join(place[:-1])}]" if place[:-1] else "the file"
        return unknown(f"key in {section}", place[-1], keys)
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "union_tag_not_found":
        return f"{key} kind is missing (accepted: {', '.join(sorted(_KINDS))})"
    if error["type"] == "union_tag_invalid":
        return f"{key}: " + unknown("kind", str(error["input"].get("kind")), _KINDS)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{key}: {message}" if key and not message.startswith("[") else message
    return f"{key} = {error['input']!r}: {message[0].lower()}{message[1:]}"


def _place(loc: tuple[int | str, ...]) -> list[str]:
    """Section and key, without pydantic's words for the members of a union."""
    parts = [str(part) for part in loc]
    if parts[:1] == ["evaluator"] and parts[1:2] and parts[1] in _KINDS:
        del parts[1]
    if parts[:1] == ["objectives"]:
        return [".".join(parts[:2]), *parts[2:]]
    return parts[:2] + [part for part in parts[2:] if part.isdigit()]


_KINDS: dict[str, type[Section]] = {
    "train": TrainSection,
    "table": TableSection,
    "python": PythonSection,
    "command": CommandSection,
    "lora": LoraSection,
}


def _keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys that a table accepts."""
    for part in path:
        if part in _KINDS:
            model = _KINDS[str(part)]
            continue
        if isinstance(part, int):
            continue
        annotation = model.model_fields[str(part)].annotation
        if typing.get_origin(annotation) is list:
            annotation = typing.get_args(annotation)[0]
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
        elif not typing.get_args(annotation):
            return []
    return list(model.model_fields)
