"""[executor] kind = "ray"."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.settings import Count, NotNegative, Positive
from lm_searcher.tools.executors.cluster.connecting import checked_address
from lm_searcher.tools.executors.protocol import Executor, Site
from lm_searcher.tools.executors.settings import ExecutorSettings
from lm_searcher.tools.protocols import Evaluator

EVERYWHERE = 100_000
"""More places than a cluster has."""


class RaySettings(ExecutorSettings):
    """[executor] kind = "ray": evaluations on a Ray cluster."""

    kind: Literal["ray"] = "ray"
    workers: Count = EVERYWHERE
    """Evaluations at the same time, at most; default: as many as the cluster has room for."""
    memory_gb: Positive | None = None
    """Limit of a trial's memory; default: an equal share of nine tenths of its node's memory,
    no limit with a GPU."""
    address: str = "auto"
    """The cluster: auto (that of this machine, or of the variable RAY_ADDRESS), or HOST:PORT. This
    machine must be one of its nodes."""
    gpus: NotNegative | None = None
    """GPUs of a trial: a share of one, such as 0.25, or a whole number. Default: 1 where the
    cluster has GPUs, else 0."""
    cpus: NotNegative | None = None
    """Processors that a trial takes from the cluster's; default: 1 without a GPU, else 0."""
    orphan: Annotated[float, Field(ge=10, allow_inf_nan=False)] = 600.0
    """Seconds that trials go on, and keep their outcomes, after their controller is gone."""

    @field_validator("address")
    @classmethod
    def _is_no_client(cls, address: str) -> str:
        try:
            return checked_address(address)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @field_validator("gpus")
    @classmethod
    def _is_share_or_whole(cls, gpus: float | None) -> float | None:
        if gpus is not None and (0 < gpus < 0.001 or (gpus > 1 and gpus != int(gpus))):
            raise ValueError(f"{gpus:g} GPUs; accepted: 0.001 to 1, or a whole number")
        return gpus

    @model_validator(mode="after")
    def _takes_something(self) -> Self:
        if self.devices:
            raise ValueError("devices: Ray assigns the GPUs; accepted: gpus, a number")
        if self.gpus == 0 and self.cpus == 0:
            raise ValueError("gpus = 0 and cpus = 0: a trial must take something of a node")
        return self

    @property
    def picks(self) -> int | None:
        """See ExecutorSettings."""
        return self.batch or (None if self.workers == EVERYWHERE else self.workers)

    def make(self, evaluator: Evaluator, site: Site) -> Executor:
        """See ExecutorSettings. Raises ConfigError without Ray, or without a cluster."""
        if importlib.util.find_spec("ray") is None:
            raise ConfigError("[executor] kind = 'ray': pip install 'lm-searcher[ray]'")
        from lm_searcher.tools.executors.cluster.executor import RayExecutor

        return RayExecutor(
            evaluator,
            workers=self.workers,
            address=self.address,
            gpus=self.gpus,
            cpus=self.cpus,
            seconds=self.seconds,
            memory=int(self.memory_gb * 2**30) if self.memory_gb else None,
            orphan=self.orphan,
            site=site,
        )
