"""[executor]: where and how evaluations run, and the executors by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny
from pydantic_core import PydanticCustomError

from lm_searcher.spaces.errors import unknown
from lm_searcher.spaces.registry import Registry
from lm_searcher.spaces.settings import (
    NOT_A_CHOICE,
    Count,
    NotNegative,
    Positive,
    SettingsModel,
)
from lm_searcher.tools.executors.protocol import Executor, Site
from lm_searcher.tools.protocols import Evaluator


class ExecutorSettings(SettingsModel):
    """[executor]: where and how evaluations run."""

    ROLE: ClassVar = "executor"

    kind: str | None = None
    """Which executor: local (processes on this machine), inline (in the controller's process), or
    that of an installed package. Default: inline for look-ups in a table, else local."""
    workers: Count = 1
    """Evaluations at the same time."""
    mode: Literal["async", "batch"] | None = None
    """async: a place that becomes free gets its next trial at once; batch: picks are made and
    awaited together. Default: batch where `batch` is given, else async."""
    batch: Count | None = None
    """Trials picked at a time; default: one a worker."""
    seconds: Positive | None = None
    """Wall-clock limit of a trial."""
    memory_gb: Positive | None = None
    """Limit of a trial's memory; default: an equal share of nine tenths of the machine's memory,
    no limit on a machine with an accelerator."""
    devices: list[str] = Field(default_factory=list)
    """CUDA device numbers, assigned to the workers in turn; default: all."""
    grace: NotNegative = 30.0
    """Seconds that Ctrl-C gives the running trials to finish."""

    @property
    def awaits_batch(self) -> bool:
        """Whether picks are made and awaited together."""
        return self.mode == "batch" or (self.mode is None and self.batch is not None)

    @property
    def picks(self) -> int | None:
        """Trials picked at a time; None: as many as there are free places."""
        return self.batch or self.workers

    def make(self, evaluator: Evaluator, site: Site) -> Executor:
        """The executor of a run; its output goes to the run's log.

        An executor of a package overrides this method. Raises UserError.
        """
        from lm_searcher.tools.executors.inline import InlineExecutor
        from lm_searcher.tools.executors.make import make_executor

        if self.kind == "inline":
            return InlineExecutor(evaluator, self.workers)
        memory = int(self.memory_gb * 2**30) if self.memory_gb else None
        return make_executor(evaluator, self.workers, self.seconds, memory, self.devices, site.log)


_HERE = "lm_searcher.tools.executors.settings"
EXECUTORS: Registry[type[ExecutorSettings]] = Registry(
    "kind",
    "lm_searcher.executors",
    {
        "local": f"{_HERE}:ExecutorSettings",
        "inline": f"{_HERE}:ExecutorSettings",
        "queue": "lm_searcher.tools.executors.queue.settings:QueueSettings",
        "ray": "lm_searcher.tools.executors.cluster.settings:RaySettings",
    },
)
"""A new executor is one file and one line: its ExecutorSettings, which make it."""


def executor_settings(given: Any) -> Any:
    """The settings of a section [executor], by its `kind`; see `evaluator_settings`."""
    if not isinstance(given, Mapping):
        return given
    kind = given.get("kind")
    if kind is None:
        return ExecutorSettings.model_validate(given)
    if kind not in EXECUTORS:
        context = {"message": unknown("kind", str(kind), EXECUTORS)}
        raise PydanticCustomError(NOT_A_CHOICE, "{message}", context)
    return EXECUTORS[kind].model_validate(given)


ExecutorChoice = Annotated[SerializeAsAny[ExecutorSettings], BeforeValidator(executor_settings)]
"""The field [executor]: the settings of the executor that `kind` names."""
