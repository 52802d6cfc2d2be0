"""Why a search ended: a reason with its data; the text is made where it is shown."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import ClassVar, Self

from lm_searcher.agent.study.record import Record


class StopReason(StrEnum):
    """Why a search ended."""

    TRIALS = "trials"
    HOURS = "hours"
    TARGET = "target"
    PATIENCE = "patience"
    EXHAUSTED = "exhausted"
    FAILURES = "failures"
    OTHER = "other"
    """Stored by a version whose words are not known."""


TEXTS = {
    StopReason.TRIALS: "the budget of {limit:.0f} trials is spent",
    StopReason.HOURS: "the budget of {limit:g} hours is spent",
    StopReason.TARGET: "the target of {limit:g} is reached",
    StopReason.PATIENCE: "{detail} in {limit:.0f} trials",
    StopReason.EXHAUSTED: "the space is exhausted{detail}",
    StopReason.FAILURES: "{limit:.0f} failures in a row, the last: {detail}",
    StopReason.OTHER: "{detail}",
}
"""How a stop reads where it is shown."""


class Stop(Record):
    """Why a search ended, with the limit that ended it. `str` gives the text for users."""

    key: ClassVar[str] = "stop"

    reason: StopReason
    limit: float = 0.0
    """The limit that was met: trials, hours, the target, or failures in a row."""
    detail: str = ""
    """Words that only the run knows: the last failure, the constraint that exhausts a space."""

    def __str__(self) -> str:
        return TEXTS[self.reason].format(limit=self.limit, detail=self.detail)

    @property
    def failed(self) -> bool:
        """Whether failed trials ended the search."""
        return self.reason is StopReason.FAILURES

    @classmethod
    def of(cls, stored: object) -> Self | None:
        """The stored stop; None while the run goes on. Version 1 stored the text for users."""
        if not stored:
            return None
        if isinstance(stored, str):
            return cls._of_text(stored)
        return cls.model_validate(stored)

    @classmethod
    def _of_text(cls, text: str) -> Self:
        for reason, pattern in _OLD_TEXTS.items():
            if found := re.fullmatch(pattern, text, re.DOTALL):
                return cls(reason=reason, **found.groupdict())
        return cls(reason=StopReason.OTHER, detail=text)


class Ending(Record):
    """The latest end of a run that goes on: extra requests do not change why it ended."""

    key: ClassVar[str] = "ended"

    trials: int
    """How many trials the run had."""
    stop: Stop


_OLD_TEXTS = {
    StopReason.TRIALS: r"the budget of (?P<limit>\d+) trials is spent",
    StopReason.HOURS: r"the budget of (?P<limit>\S+) hours is spent",
    StopReason.TARGET: r"the target of (?P<limit>\S+) is reached",
    StopReason.PATIENCE: r"(?P<detail>no .*) in (?P<limit>\d+) trials",
    StopReason.EXHAUSTED: r"the space is exhausted(?P<detail>.*)",
    StopReason.FAILURES: r"(?P<limit>\d+) failures in a row, the last: (?P<detail>.*)",
}
