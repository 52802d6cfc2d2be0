"""Which failed requests are sent again, and after how long."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from email.utils import parsedate_to_datetime

import tenacity

from lm_searcher.tools.llm.settings import EndpointSettings

_log = logging.getLogger("lm_searcher.llm")

LONGEST = 60.0
"""The most seconds between two attempts, whatever a server asks for."""


class Unanswered(Exception):
    """A request got no answer; the message gives the reason."""

    failed = False
    """Whether the server reported an error of its own (HTTP 500 and above)."""

    def __init__(self, reason: str, transient: bool = True, after: float | None = None) -> None:
        super().__init__(reason)
        self.transient = transient
        """Whether the request may be answered when it is sent again."""
        self.after = after
        """Seconds that the server asks to wait before the next request."""
        self.retries = 0


def retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header, which holds a number or an HTTP date.

    Between 0 and LONGEST; None without a header, or for one that cannot be read.
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


def retrying(settings: EndpointSettings, attempts: int) -> tenacity.AsyncRetrying:
    """Up to `attempts` attempts; none begins later than `retry_seconds` after the first.

    The wait doubles from attempt to attempt and is drawn at random, so that several searches do
    not call a server at the same moment; a Retry-After header takes its place.
    """
    rng = random.Random()

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        longest = min(settings.backoff * 2.0 ** min(state.attempt_number - 1, 16), LONGEST)
        backoff = rng.uniform(longest / 2, longest)
        asked = error.after if isinstance(error, Unanswered) else None
        return backoff if asked is None else max(asked, min(backoff, settings.backoff))

    return tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(attempts)
        | tenacity.stop_before_delay(settings.retry_seconds),
        wait=wait,
        retry=tenacity.retry_if_exception(lambda e: isinstance(e, Unanswered) and e.transient),
        sleep=asyncio.sleep,
        before_sleep=tenacity.before_sleep_log(_log, logging.INFO),
        reraise=True,
    )
