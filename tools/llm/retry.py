"""When a request is sent again, and after how long."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

import tenacity

from lm_searcher.tools.llm.settings import EndpointSettings

LONGEST = 60.0
"""Seconds between two attempts at most, whatever a server asks for."""


class Unanswered(Exception):
    """A request got no answer; the message says what it got instead."""

    failed = False
    """Whether the server said that something went wrong within it (HTTP 500 and above)."""

    def __init__(self, what: str, transient: bool = True, after: float | None = None) -> None:
        super().__init__(what)
        self.transient = transient
        """Whether it may be answered when it is sent again."""
        self.after = after
        """The seconds that the server wants to be left alone for."""
        self.retries = 0


def retry_after(header: str | None) -> float | None:
    """The seconds that a Retry-After header asks for, which is a number or an HTTP date.

    At least 0 and at most LONGEST; None for none, and for what is neither.
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST)


def retrying(
    settings: EndpointSettings, attempts: int, sleep: Callable[[float], None]
) -> tenacity.Retrying:
    """Up to `attempts`, unless the next would begin after the seconds that the user allows."""
    dice = random.Random()  # several searches must not knock all at once

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        longest = min(settings.backoff * 2.0 ** min(state.attempt_number - 1, 16), LONGEST)
        backoff = dice.uniform(longest / 2, longest)
        asked = error.after if isinstance(error, Unanswered) else None
        return backoff if asked is None else max(asked, min(backoff, settings.backoff))

    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(attempts)
        | tenacity.stop_before_delay(settings.retry_seconds),
        wait=wait,
        retry=tenacity.retry_if_exception(lambda e: isinstance(e, Unanswered) and e.transient),
        sleep=sleep,
        reraise=True,
    )
