"""[ranker] name = "endpoint:MODEL@URL": the settings of the ranker that asks a server."""

from __future__ import annotations

from typing import ClassVar

from lm_searcher.spaces.space import SearchSpace
from lm_searcher.tools.llm.settings import EndpointOptions
from lm_searcher.tools.protocols import Objective, Ranker
from lm_searcher.tools.rankers.settings import RankerSettings


class EndpointRankerSettings(RankerSettings, EndpointOptions):
    """[ranker] name = "endpoint:MODEL@URL"."""

    FORM: ClassVar = "endpoint:MODEL@URL"

    def make(self, space: SearchSpace, objective: Objective) -> Ranker:
        """See RankerSettings. Raises ConfigError, RankerError."""
        from lm_searcher.tools.rankers.endpoint.ranker import EndpointRanker  # loads openai

        model = self.name.partition(":")[2]
        return EndpointRanker.for_space(model, space, self.settings, objective)
