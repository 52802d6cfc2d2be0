from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

from lm_searcher.tools.llm.client import Client, Unreachable
from lm_searcher.tools.llm.settings import EndpointSettings
from lm_searcher.tools.protocols import Cancelled

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def client(url: str, timeout: float = 60.0) -> Client:
    return Client(EndpointSettings.of(f"m@{url}", {"timeout": timeout}))


def held(loopback: Any) -> tuple[threading.Event, threading.Event]:
    """Make the server withhold its next answer. Returns events: the request has arrived; the
    client has closed the connection."""
    asked, closed = threading.Event(), threading.Event()

    def hold(server: Any, to: Any, request: dict[str, Any]) -> None:
        asked.set()
        if to.recv(1) == b"":  # the end of the stream
            closed.set()

    loopback.answers["hold"] = hold
    loopback.script = iter(["hold"])
    return asked, closed


def test_a_request_in_a_thread_that_runs_a_loop(loopback: Any) -> None:
    async def notebook() -> bytes:
        return client(loopback.url).send(REQUEST)

    assert b"choices" in asyncio.run(notebook())


def test_a_refused_connection_is_named(unused_port: int) -> None:
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(Unreachable, match=r"\(\[Errno \d+\] .*\)"):
            client(f"http://{host}:{unused_port}/v1").send(REQUEST)


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_cancelling_closes_the_connection(loopback: Any) -> None:
    asked, closed = held(loopback)
    made = client(loopback.url)
    threading.Thread(target=lambda: (asked.wait(), made.cancel())).start()
    with pytest.raises(Cancelled):
        made.send(REQUEST)
    assert closed.wait(30)
    with pytest.raises(Cancelled):
        made.send(REQUEST)
    made.reset()
    assert made.ask(REQUEST, 1)[1] == 0


def test_a_deadline_closes_the_connection(loopback: Any) -> None:
    _, closed = held(loopback)
    with pytest.raises(Exception, match=r"no answer within 0\.2 s"):
        client(loopback.url, timeout=0.2).send(REQUEST)
    assert closed.wait(30)


def test_ctrl_c_ends_a_program_that_waits(loopback: Any) -> None:
    asked, closed = held(loopback)
    program = f"""
from lm_searcher.tools.llm.client import Client
from lm_searcher.tools.llm.settings import EndpointSettings
Client(EndpointSettings.of("m@{loopback.url}", {{}})).send({REQUEST!r})
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    assert asked.wait(60)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in error and process.returncode == -signal.SIGINT
    assert closed.wait(30)
