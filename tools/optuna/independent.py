"""The warning about parameters that are sampled independently."""

from __future__ import annotations

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from lm_searcher.spaces.ncode import MAX_OPTIONS

_logger = optuna.logging.get_logger(f"optuna.{__name__}")  # so that Optuna's verbosity applies


def warn_independent(trial: FrozenTrial, name: str, used: BaseSampler, instead_of: str) -> None:
    """Log that a parameter is sampled independently, in the words of Optuna's own samplers."""
    _logger.warning(
        f"The parameter `{name}` in Trial#{trial.number} is sampled independently using "
        f"`{type(used).__name__}` instead of `{instead_of}`, potentially degrading the "
        "optimization performance. This fallback happened because it is a float, has more than "
        f"{MAX_OPTIONS} choices, or is not in every finished trial with the same range. This is "
        "logged once per parameter. You can suppress this warning by setting "
        "`warn_independent_sampling` to `False` in the constructor of "
        f"`{instead_of}` if this independent sampling is intended behavior."
    )
