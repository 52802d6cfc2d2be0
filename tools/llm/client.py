"""Requests to an OpenAI-compatible server, bounded in time and in size.

The SDK's own time-outs are between two bytes, and it reads a body whole: a server that sends one
byte a second, or gigabytes, would hold a search up. So `asyncio.timeout` bounds each request as a
whole, and a body is cut after MOST_BYTES.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import httpx2
import openai

from lm_searcher.spaces.errors import RankerError
from lm_searcher.tools.llm.event_loop import event_loop
from lm_searcher.tools.llm.retry import Unanswered, retry_after, retrying
from lm_searcher.tools.llm.settings import NO_KEY, EndpointSettings
from lm_searcher.tools.llm.transport import async_http_client
from lm_searcher.tools.protocols import Cancelled

MOST_BYTES = 512 * 1024
TRANSIENT = {408, 409, 429}
"""Statuses below 500 after which a request is sent again; after all from 500 it is too."""
FATAL = {
    401: "refuses the key",
    403: "forbids the use of this model or key",
    404: "is not there: the model's name or the URL is wrong",
}
OVERFLOW = re.compile(r"context.{0,20}(length|window|size)|maximum context|too many tokens", re.I)
"""How servers say that a prompt is longer than the model's context."""

Call = Callable[[openai.AsyncOpenAI], Awaitable[Any]]
"""A request by the SDK, for its raw response."""
T = TypeVar("T")


class Refused(Exception):
    """The server does not accept the request (HTTP 400, 422); its message, without the key."""


class Unreachable(Unanswered):
    """No server listens at the URL, or none that this machine can speak to."""


class Client:
    """Sends chat completions. Its methods block and may be called from any thread.

    The key appears in no message: it is removed from all text that a server sends.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        self.settings = settings
        self._key = settings.key()
        self._cancelled = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def cancel(self) -> None:
        """See AskingRanker: end the requests under way, and refuse others until `reset`."""
        self._cancelled = True
        for task in list(self._tasks):
            task.get_loop().call_soon_threadsafe(task.cancel)

    def reset(self) -> None:
        """Allow requests again after `cancel`."""
        self._cancelled = False

    def models(self) -> list[str]:
        """The names of the models that the server lists; empty if it gives no list."""
        try:
            body = self._wait(self._send(lambda sdk: sdk.models.with_raw_response.list()))
            return [str(model["id"]) for model in json.loads(body)["data"]]
        except (Unanswered, Refused, RankerError, ValueError, TypeError, KeyError, RecursionError):
            return []

    def send(self, request: Mapping[str, Any]) -> bytes:
        """Send a request once and return the body, at most MOST_BYTES of it.

        Raises Unanswered, Refused, Cancelled; RankerError for an error that no retry can mend.
        """
        return self._wait(self._complete(request))

    def ask(self, request: Mapping[str, Any], attempts: int) -> tuple[bytes, int]:
        """As `send`, with up to `attempts` attempts: the body, and the number of retries.

        Raises Unanswered when all attempts, or `retry_seconds`, are used up.
        """
        return self._wait(self._retried(request, attempts))

    # -- in the event loop ---------------------------------------------------------------------

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the event loop and wait for its result."""
        future = asyncio.run_coroutine_threadsafe(self._cancellable(work), event_loop())
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise Cancelled from None
        finally:
            future.cancel()  # after KeyboardInterrupt; a finished future ignores it

    async def _cancellable(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._cancelled:
                work.close()
                raise Cancelled
            return await work
        finally:
            self._tasks.discard(task)

    async def _retried(self, request: Mapping[str, Any], attempts: int) -> tuple[bytes, int]:
        retry = retrying(self.settings, attempts)
        try:
            body: bytes = await retry(self._complete, request)
        except Unanswered as error:
            error.retries = retry.statistics["attempt_number"] - 1
            raise
        return body, retry.statistics["attempt_number"] - 1

    async def _complete(self, request: Mapping[str, Any]) -> bytes:
        return await self._send(
            lambda sdk: sdk.chat.completions.with_raw_response.create(**request)
        )

    async def _send(self, call: Call) -> bytes:
        settings = self.settings
        try:
            async with async_http_client(settings, MOST_BYTES) as http:
                sdk = openai.AsyncOpenAI(
                    api_key=self._key, base_url=settings.url, max_retries=0, http_client=http
                )
                answer = call(sdk)  # the SDK's slow imports, not yet the request
                async with asyncio.timeout(settings.timeout):
                    return bytes((await answer).http_response.content)
        except TimeoutError:
            raise Unanswered(f"no answer within {settings.timeout:g} s") from None
        except (openai.OpenAIError, httpx2.HTTPError, OSError, ValueError) as error:
            raise self.translated(error) from None

    # -- errors --------------------------------------------------------------------------------

    def translated(self, error: Exception) -> Exception:
        """An error of the SDK as one of this package, short and without the key.

        Unanswered, Refused or RankerError; an error that has other causes is returned as it is.
        """
        place = f"'{self.settings.url}'"
        if isinstance(error, openai.APIStatusError):
            return self._status(error, place)
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__ or error
            if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout):
                return Unreachable(f"no server at {place} ({self.clean(str(_first_cause(cause)))})")
            return Unanswered(f"{type(cause).__name__}: {self.clean(str(cause))}".rstrip(": "))
        if isinstance(error, openai.OpenAIError | httpx2.HTTPError | OSError | ValueError):
            reason = f"{type(error).__name__}: {self.clean(str(error))}"
            return Unanswered(reason, transient=False)
        return error

    def _status(self, error: openai.APIStatusError, place: str) -> Exception:
        status, body, role = error.status_code, error.body, self.settings.ROLE
        message = body.get("message") or body.get("detail") if isinstance(body, dict) else body
        words = f"HTTP {status}: {self.clean(str(message or ''))}".rstrip(": ")
        if status in (401, 403):  # these messages may quote a part of the key
            return RankerError(f"{role}: {place} {FATAL[status]} (HTTP {status})")
        if status == 404 or (status < 500 and error.code == "model_not_found"):
            model = f"model '{self.settings.model}' at {place}"
            return RankerError(f"{role}: {model} {FATAL[404]} ({words})")
        if status in (400, 422):
            return Refused(words)
        transient = status in TRANSIENT or status >= 500
        after = retry_after(error.response.headers.get("retry-after"))
        unanswered = Unanswered(f"HTTP {status}", transient, after)
        unanswered.failed = status >= 500
        return unanswered

    def clean(self, text: str, most: int = 200) -> str:
        """A server's text as one printable line of at most `most` characters, without the key."""
        if self._key != NO_KEY:
            text = text.replace(self._key, "***")
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= most else text[: most - 3] + "..."


def _first_cause(error: BaseException) -> BaseException:
    """The innermost error with a text: "Connection refused", not "All attempts failed"."""
    inner = error.__cause__ or error.__context__
    if isinstance(error, BaseExceptionGroup):  # one error for each address of the host
        inner = error.exceptions[-1]
    return _first_cause(inner) if inner is not None and str(inner) else error
