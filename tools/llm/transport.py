"""HTTP clients for the servers of language models, with a limit on the size of a body."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import Any

import httpx2

from lm_searcher.tools.llm.settings import EndpointSettings

CONNECT_SECONDS = 10.0
"""The longest time to wait for a connection."""


def http_client(settings: EndpointSettings, max_bytes: int) -> httpx2.Client:
    """A client that cuts each body after `max_bytes` bytes and keeps no connection open."""

    def limit(response: httpx2.Response) -> None:
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.headers.pop("content-encoding", None)
        response.stream = _LimitedStream(response.stream, max_bytes)

    return httpx2.Client(event_hooks={"response": [limit]}, **_options(settings))


def async_http_client(settings: EndpointSettings, max_bytes: int) -> httpx2.AsyncClient:
    """As `http_client`, for asyncio."""

    async def limit(response: httpx2.Response) -> None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.headers.pop("content-encoding", None)
        response.stream = _AsyncLimitedStream(response.stream, max_bytes)

    return httpx2.AsyncClient(event_hooks={"response": [limit]}, **_options(settings))


def _options(settings: EndpointSettings) -> dict[str, Any]:
    timeout = settings.timeout
    return {
        "timeout": httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS)),
        "verify": _certificates(),
        # A small compressed body can unpack to gigabytes. The clients ask for none and, by
        # removing the header above, unpack none.
        "headers": {"accept-encoding": "identity"},
        "limits": httpx2.Limits(max_keepalive_connections=0),
        "trust_env": not settings.on_loopback,  # no proxy for a server on this machine
    }


@cache
def _certificates() -> ssl.SSLContext:
    """The default TLS context, made once because it reads all certificates."""
    return ssl.create_default_context()


class _LimitedStream(httpx2.SyncByteStream):
    """The first `max_bytes` bytes of a body."""

    def __init__(self, body: httpx2.SyncByteStream, max_bytes: int) -> None:
        self.body, self.max_bytes = body, max_bytes

    def __iter__(self) -> Iterator[bytes]:
        room = self.max_bytes
        for chunk in self.body:
            yield chunk[:room]
            room -= len(chunk)
            if room <= 0:
                return

    def close(self) -> None:
        self.body.close()


class _AsyncLimitedStream(httpx2.AsyncByteStream):
    """The first `max_bytes` bytes of a body."""

    def __init__(self, body: httpx2.AsyncByteStream, max_bytes: int) -> None:
        self.body, self.max_bytes = body, max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        room = self.max_bytes
        async for chunk in self.body:
            yield chunk[:room]
            room -= len(chunk)
            if room <= 0:
                return

    async def aclose(self) -> None:
        await self.body.aclose()
