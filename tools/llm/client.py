"""One request to an OpenAI-compatible server, bounded in time and in size.

The SDK's time-outs are between two bytes, and a body is read whole however long it is: a server
that sends a byte a second, or gigabytes, would hold the search up. So each request runs in a
thread that is left alone at the deadline, and no more than MOST_BYTES of a body are read.
"""

from __future__ import annotations

import contextlib
import json
import queue
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx2
import openai

from lm_searcher.spaces.errors import RankerError
from lm_searcher.tools.llm.retry import Unanswered, retry_after, retrying
from lm_searcher.tools.llm.settings import NO_KEY, EndpointSettings
from lm_searcher.tools.protocols import Cancelled

MOST_BYTES = 512 * 1024
TRANSIENT = {408, 409, 429}
"""Besides all from 500."""
FATAL = {
    401: "refuses the key",
    403: "forbids the use of this model or key",
    404: "is not there: the model's name or the URL is wrong",
}


Call = Callable[[openai.OpenAI], Any]
"""A request by the SDK, for its raw response."""


class Refused(Exception):
    """The server takes no such request (400, 422); the message is its own, cleaned."""


class Unreachable(Unanswered):
    """There is no server, or none that this machine can speak to."""


class Client:
    """Sends chat completions. The key is shown nowhere: what a server says is cleaned of it."""

    def __init__(self, settings: EndpointSettings) -> None:
        self.settings = settings
        self._key = settings.key()
        self._cancelled = threading.Event()
        self._tls = ssl.create_default_context()  # once: it reads all certificates

    def cancel(self) -> None:
        """See AskingRanker."""
        self._cancelled.set()

    def reset(self) -> None:
        """Forget that it was cancelled."""
        self._cancelled.clear()

    def models(self) -> list[str]:
        """The models that the server lists; none if it does not tell."""
        try:
            document = json.loads(self._within(lambda sdk: sdk.models.with_raw_response.list()))
            return [str(model["id"]) for model in document["data"]]
        except (Unanswered, Refused, RankerError, ValueError, TypeError, KeyError, RecursionError):
            return []

    def ask(self, request: Mapping[str, Any], attempts: int) -> tuple[bytes, int]:
        """The body of the answer, and how often the request was sent again.

        Raises Unanswered when all attempts, or the seconds for them, are used up; Refused;
        RankerError for what no attempt can mend; Cancelled.
        """
        again = retrying(self.settings, attempts, self._pause)
        try:
            body: bytes = again(self.send, request)
        except Unanswered as error:
            error.retries = again.statistics["attempt_number"] - 1
            raise
        return body, again.statistics["attempt_number"] - 1

    def _pause(self, seconds: float) -> None:
        self._cancelled.wait(seconds)

    def send(self, request: Mapping[str, Any]) -> bytes:
        """As `ask`, once. The body has at most MOST_BYTES, and is cut there."""
        return self._within(lambda sdk: sdk.chat.completions.with_raw_response.create(**request))

    def _within(self, call: Call) -> bytes:
        answers: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
        left = threading.Event()

        def work() -> None:
            try:
                answers.put(self._body(call, left))
            except Exception as error:
                answers.put(self.told(error))

        if self._cancelled.is_set():
            raise Cancelled
        threading.Thread(target=work, name="endpoint", daemon=True).start()
        deadline = time.monotonic() + self.settings.timeout
        while (seconds := deadline - time.monotonic()) > 0 and not self._cancelled.is_set():
            with contextlib.suppress(queue.Empty):
                answer = answers.get(timeout=min(seconds, 0.1))
                if isinstance(answer, Exception):
                    raise answer from None
                return answer
        left.set()
        if self._cancelled.is_set():
            raise Cancelled
        raise Unanswered(f"no answer within {self.settings.timeout:g} s")

    def _body(self, call: Call, left: threading.Event) -> bytes:
        settings = self.settings
        patience = httpx2.Timeout(settings.timeout, connect=min(settings.timeout, 10.0))
        with httpx2.Client(
            timeout=patience,
            verify=self._tls,
            headers={"accept-encoding": "identity"},
            event_hooks={"response": [bounded(left.is_set)]},
            trust_env=not settings.on_loopback,  # no proxy stands before this machine itself
        ) as http:
            sdk = openai.OpenAI(
                api_key=self._key, base_url=settings.url, max_retries=0, http_client=http
            )
            return bytes(call(sdk).http_response.content)

    def told(self, error: Exception) -> Exception:
        """What the SDK raised, as one of ours, with nothing secret and nothing long in it."""
        place = f"'{self.settings.url}'"
        if isinstance(error, openai.APIStatusError):
            return self._status(error, place)
        if isinstance(error, openai.APIConnectionError):
            cause = error.__cause__ or error
            if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout):
                return Unreachable(f"no server at {place} ({self.clean(str(cause))})")
            return Unanswered(f"{type(cause).__name__}: {self.clean(str(cause))}".rstrip(": "))
        if isinstance(error, openai.OpenAIError | httpx2.HTTPError | OSError | ValueError):
            what = f"{type(error).__name__}: {self.clean(str(error))}"
            return Unanswered(what, transient=False)
        return error  # no doing of the server's

    def _status(self, error: openai.APIStatusError, place: str) -> Exception:
        status, body, role = error.status_code, error.body, self.settings.ROLE
        said = body.get("message") or body.get("detail") if isinstance(body, dict) else body
        words = f"HTTP {status}: {self.clean(str(said or ''))}".rstrip(": ")
        if status in (401, 403):  # whose words may hold part of the key
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
        """What a server said, fit for a line: printable, short, without the key."""
        if self._key != NO_KEY:
            text = text.replace(self._key, "***")
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= most else text[: most - 3] + "..."


def bounded(left: Callable[[], bool], most: int = MOST_BYTES) -> Callable[[httpx2.Response], None]:
    """A hook that ends a body after `most` bytes, or once nobody waits for it any more."""

    class Stream(httpx2.SyncByteStream):
        def __init__(self, inner: httpx2.SyncByteStream) -> None:
            self.inner = inner

        def __iter__(self) -> Iterator[bytes]:
            room = most
            for chunk in self.inner:
                yield chunk[:room]
                room -= len(chunk)
                if room <= 0 or left():
                    return

        def close(self) -> None:
            self.inner.close()

    def hook(response: httpx2.Response) -> None:
        response.headers.pop("content-encoding", None)  # unasked for; a small body may unpack huge
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = Stream(response.stream)

    return hook
