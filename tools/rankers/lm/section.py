"""[ranker] name = "lm:PATH-OR-ID": the ranker that is a local language model."""

from __future__ import annotations

from typing import ClassVar

from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.protocols import Objective, Ranker
from lm_searcher.tools.rankers.lm.settings import LMOptions
from lm_searcher.tools.rankers.settings import RankerSettings


class LMRankerSettings(RankerSettings, LMOptions):
    """[ranker] name = "lm:PATH-OR-ID"."""

    FORM: ClassVar = "lm:PATH-OR-ID[+ADAPTER]"

    def make(self, space: SearchSpace, objective: Objective) -> Ranker:
        """See RankerSettings. Raises ConfigError, RankerError."""
        from lm_searcher.tools.rankers.lm.ranker import LMRanker  # loads torch

        return LMRanker.for_space(self.name.partition(":")[2], space, self.settings, objective)
