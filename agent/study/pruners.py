"""Early stopping: Optuna's pruners by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from lm_searcher.spaces.settings import Count, SettingsModel

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


class PrunerSettings(SettingsModel):
    """[pruner]: early stopping of trials by an Optuna pruner."""

    ROLE: ClassVar = "pruner"

    name: Literal["none", "successive_halving", "median"] = "none"
    """Which pruner."""
    min_resource: Count = 1
    """Epochs before the first decision."""
    reduction_factor: Annotated[int, Field(ge=2, strict=True)] = 3
    """successive_halving only: one of so many trials goes on at each decision."""


def make_pruner(section: PrunerSettings) -> BasePruner | None:
    """Optuna's pruner of these settings; None stops nothing. Steps are epochs, from 1."""
    if section.name == "none":
        return None
    from optuna.pruners import MedianPruner, SuccessiveHalvingPruner

    if section.name == "successive_halving":
        return SuccessiveHalvingPruner(
            min_resource=section.min_resource, reduction_factor=section.reduction_factor
        )
    return MedianPruner(n_warmup_steps=section.min_resource)
