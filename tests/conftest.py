"""What the tests of every folder share."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import warm
from alembic.script import ScriptDirectory
from hypothesis import settings
from postgres import Postgres, why_not

# Before anything imports torch: on tensors this small more threads gain nothing, and where other
# work shares the cores their barriers make the tests ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Ray reads it when it is imported.
os.environ["RAY_AUTH_MODE"] = "disabled"

# No deadline for one example: how long it takes depends on what else the machine does.
settings.register_profile("quick", max_examples=40, derandomize=True, deadline=None)
settings.register_profile("nightly", max_examples=500, deadline=None, print_blob=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="run the tests marked nightly too")


def pytest_configure(config: pytest.Config) -> None:
    """Load the Hypothesis profile; --hypothesis-profile comes later and overrides it."""
    settings.load_profile("nightly" if config.getoption("nightly") else "quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the nightly tests unless --nightly is given, whatever -m selects."""
    if not config.getoption("nightly"):
        nightly = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=nightly)
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Finds a benchmark table in shared/data beside, or further above, the checkout.

    Skips the test where there is none: the tables are not part of the repository.
    """

    def locate(name: str) -> Path:
        for folder in Path(__file__).resolve().parents[2:]:
            if (path := folder / "shared" / "data" / name).is_file():
                return path
        pytest.skip(f"no shared/data/{name} beside or above this checkout")

    return locate


@pytest.fixture(scope="session", autouse=True)
def migrations_read_once() -> Iterator[None]:
    """Every new SQLite store reads Optuna's migrations again, which is most of its making."""
    read = ScriptDirectory.from_config
    found: dict[str | None, ScriptDirectory] = {}

    def from_config(config: Any) -> ScriptDirectory:
        place = config.get_main_option("script_location")
        if place not in found:
            found[place] = read(config)
        return found[place]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", from_config)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of our own; skipped where none is installed."""
    if reason := why_not():
        pytest.skip(reason)
    server = Postgres()
    server.start()
    yield server
    server.close()


# -- processes without the start of an interpreter ------------------------------------------------


@pytest.fixture(scope="session")
def warm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The socket of a fork server, which ends with the session."""
    path = str(tmp_path_factory.mktemp("warm") / "socket")
    command = [sys.executable, warm.__file__, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None and server.stdout.readline() == b"ready\n"
        yield path
        assert server.stdin is not None
        server.stdin.close()


@pytest.fixture
def warm_python(warm_server: str) -> Iterator[Callable[..., warm.WarmProcess]]:
    """Starts `python ARGUMENTS` in a fork of a server; tests/support/warm.py says what differs."""
    started: list[warm.WarmProcess] = []

    def start(*arguments: str | Path, **options: Any) -> warm.WarmProcess:
        started.append(warm.WarmProcess(warm_server, [*map(str, arguments)], **options))
        return started[-1]

    yield start
    for process in started:
        process.close()


# -- a language-model server of our own ----------------------------------------------------------

KEY = "sk-Th1s-must-n0t-be-seen"
"""The key that the loopback server is sent, and that it repeats in all that it says wrong."""

Answer = Callable[["Loopback", socket.socket, dict[str, Any]], None]


def candidates_of(request: dict[str, Any]) -> list[str]:
    """The candidates in a request's first prompt, of either kind."""
    prompt = request["messages"][0]["content"]
    if "Candidates, numbered from 0:" in prompt:
        listed = prompt.split("Candidates, numbered from 0:\n")[1].split("\n\n")[0]
        return [line.split(": ", 1)[1] for line in listed.splitlines()]
    return re.findall(r"(\w+);", prompt.rpartition(",")[2])


def send(to: socket.socket, body: str | bytes, status: str = "200 OK", *headers: str) -> None:
    """An HTTP response."""
    body = body.encode() if isinstance(body, str) else body
    kind = () if any(h.startswith("Content-Type") for h in headers) else (JSON,)
    lines = [f"HTTP/1.1 {status}", *kind, f"Content-Length: {len(body)}", *headers, "", ""]
    to.sendall("\r\n".join(lines).encode() + body)


JSON = "Content-Type: application/json"


def completion(content: object, **usage: object) -> str:
    """The body of a chat completion."""
    used = {"prompt_tokens": 70, "completion_tokens": 7} | usage
    message = {"role": "assistant", "content": content}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    return json.dumps({"id": KEY, "object": "chat.completion", "choices": choices, "usage": used})


def good(server: Loopback, to: socket.socket, request: dict[str, Any]) -> None:
    """Ranks the candidates by a digest of their names: an opinion, and always the same."""
    shown = candidates_of(request)
    order = sorted(range(len(shown)), key=lambda i: hashlib.md5(shown[i].encode()).digest())
    if "numbered from 0" in request["messages"][0]["content"]:
        send(to, completion(json.dumps({"ranking": order})))
    else:
        send(to, completion(shown[order[0]] if shown else "0"))


def saying(content: Callable[[int], object]) -> Answer:
    """A completion with what `content` makes of the number of candidates."""
    return lambda server, to, request: send(to, completion(content(len(candidates_of(request)))))


def sending(body: str | bytes, status: str = "200 OK", *headers: str) -> Answer:
    """This very response."""
    return lambda server, to, request: send(to, body, status, *headers)


def slow(server: Loopback, to: socket.socket, request: dict[str, Any]) -> None:
    """A byte now and then, for ever."""
    to.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while not server.stopping.wait(0.02):
        to.sendall(b" ")


def slow_headers(server: Loopback, to: socket.socket, request: dict[str, Any]) -> None:
    """The same, and the headers do not end."""
    to.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not server.stopping.wait(0.02):
        to.sendall(b"x")


def cut(server: Loopback, to: socket.socket, request: dict[str, Any]) -> None:
    """Half an answer."""
    to.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + completion("{").encode())


ERROR = json.dumps({"error": {"message": f"key {KEY} is in trouble", "code": None}})
FAULTS: dict[str, Answer] = {
    "429": sending(ERROR, "429 Too Many Requests", "Retry-After: 0.01"),
    "429 date": sending(
        ERROR, "429 Too Many Requests", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"
    ),
    "500": sending(f"<h1>{KEY}</h1>", "500 Internal Server Error", "Content-Type: text/html"),
    "slow": slow,
    "cut": cut,
    "hung up": lambda server, to, request: None,
    "empty": sending(""),
    "no JSON": sending(f"{KEY} " * 20),
    "no completion": sending(json.dumps({"object": KEY, "choices": []})),
    "null": saying(lambda n: None),
    "wrong indices": saying(lambda n: json.dumps({"ranking": [KEY, 0.5, None]})),
    "repeated": saying(lambda n: '{"ranking": [0, 1, 0]}'),
    "not in the pool": saying(lambda n: json.dumps({"ranking": ["99999"], "best": KEY})),
    "beyond the pool": saying(lambda n: json.dumps({"ranking": [0, n]})),
    "a megabyte": saying(lambda n: KEY * 45_000),
    "content type": sending(f"<html>{KEY}</html>", "200 OK", "Content-Type: text/html"),
}


class Loopback(socketserver.ThreadingTCPServer):
    """An OpenAI-compatible server on loopback that does by a script what real ones do.

    `script` names the fault of each request in turn, or "good"; after its end all are good.
    """

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.stopping = threading.Event()
        self.answers: dict[str, Answer] = {"good": good, **FAULTS}
        self.script: Iterator[str] = iter(())
        self.requests: list[dict[str, Any]] = []
        self.headers: list[str] = []
        self.done: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """The client has gone: what it does when it has waited for long enough."""


class _Handler(socketserver.StreamRequestHandler):
    server: Loopback

    def handle(self) -> None:
        head = b"".join(itertools.takewhile(bytes.strip, self.rfile)).decode()
        if not head:  # the client has closed the connection before it sent a request
            return
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        body = json.loads(self.rfile.read(int(length[1]))) if length else {}
        self.server.requests.append(body)
        self.server.headers.append(head)
        fault = next(self.server.script, "good")
        self.server.done.append(fault)
        self.server.answers[fault](self.server, self.connection, body)


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """A server that runs, and is gone afterwards."""
    with Loopback() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.stopping.set()
        server.shutdown()
        thread.join()
