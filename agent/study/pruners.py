"""Early stopping: Optuna's pruners by name."""

from __future__ import annotations

from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

from lm_searcher.agent.settings.run_file import PrunerSection


def make_pruner(section: PrunerSection) -> BasePruner:
    """The pruner that a run file asks for. Steps are epochs, from 1."""
    if section.name == "successive_halving":
        return SuccessiveHalvingPruner(
            min_resource=section.min_resource, reduction_factor=section.reduction_factor
        )
    if section.name == "median":
        return MedianPruner(n_warmup_steps=section.min_resource)
    return NopPruner()
