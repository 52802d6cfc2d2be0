"""optuna-dashboard on live runs. It reads only: every request that would write is refused."""

from __future__ import annotations

import errno
import json
import logging
import socket
from collections.abc import Iterable
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import optuna

from lm_searcher.agent.optuna_view.sources import Source
from lm_searcher.agent.optuna_view.storage import ResultStorage
from lm_searcher.spaces.errors import ConfigError, one_line

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger("lm_searcher.dashboard")

REFUSAL = "lm-searcher's dashboard only reads: only the search writes its trials"
READING = ("GET", "HEAD")
BODY = 2**20
"""The most bytes that are read of a refused request."""


class DashboardServer(ThreadingMixIn, WSGIServer):
    """Serves the dashboard of some runs, a thread for each request.

    Port 0 is any that is free. Raises ConfigError if the address cannot be bound, or if
    optuna-dashboard is not installed.
    """

    daemon_threads = True
    allow_reuse_port = False

    def __init__(self, runs: Source, host: str, port: int) -> None:
        application = read_only(dashboard_of(runs))
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise ConfigError(f"cannot serve at {_address(host, port)}: {_reason(error)}") from None
        self.set_app(application)

    def server_bind(self) -> None:
        """Bind without asking a name server for the name of the host."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    @property
    def url(self) -> str:
        """Where a browser finds the dashboard."""
        return f"http://{_address(self.server_name, self.server_port)}/dashboard/"


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)


def dashboard_of(runs: Source) -> WSGIApplication:
    """optuna-dashboard's own application, on a view of the runs."""
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise ConfigError(
            "the dashboard is not installed: pip install 'lm-searcher[dashboard]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return cast("WSGIApplication", wsgi(ResultStorage(runs, listed=True)))


def read_only(application: WSGIApplication) -> WSGIApplication:
    """The application without requests that write; the dashboard shows the reason to the user."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in READING:
            return application(environ, start_response)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"].read(min(length, BODY))  # or closing the connection loses the answer
        body = json.dumps({"reason": REFUSAL}).encode()
        start_response("403 Forbidden", [("Content-Type", "application/json")])
        return [body]

    return answer


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use; choose another --port"
    return one_line(error)
