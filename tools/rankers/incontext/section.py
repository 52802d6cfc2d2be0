"""[ranker] name = "local": the settings of the ranker that comes with the package."""

from __future__ import annotations

from pathlib import Path

from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Objective, Ranker
from lm_searcher.tools.rankers.settings import RankerSettings


class LocalSettings(RankerSettings):
    """[ranker] name = "local"."""

    weights: Path | None = None
    """A folder that `train-ranker incontext` wrote; default: the weights of the package."""

    def make(self, space: SearchSpace, objective: Objective) -> Ranker:
        """See RankerSettings. Raises ConfigError for bad weights, SpaceError for a space that is
        too large."""
        from lm_searcher.tools.rankers.incontext.ranker import InContextRanker  # loads torch

        return InContextRanker.for_space(space, self.weights)
