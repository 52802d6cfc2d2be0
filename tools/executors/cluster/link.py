"""The controller's end of the driver, and of the next one when it has ended."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

from lm_searcher.spaces.errors import ConfigError
from lm_searcher.tools.executors.cluster.connecting import environment_with_token
from lm_searcher.tools.executors.cluster.messages import (
    Answer,
    Close,
    Command,
    Connect,
    Connected,
    Gone,
    Refused,
)
from lm_searcher.tools.executors.worker import receive, send

PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds between two tries to connect to a cluster that is gone."""

CLOSING = 60.0
"""Seconds that a driver has to end."""

_log = logging.getLogger("lm_searcher.executors")


class Link:
    """A driver that is connected to the cluster; if Ray ends it, another one after a while.

    What evaluations print goes to the end of the file `log`, or to this process's stderr; what Ray
    writes goes to the file only. Raises ConfigError if there is no such cluster.
    """

    def __init__(self, connect: Connect, log: Path | None) -> None:
        self._connect, self._log = connect, log
        self._pause, self._next = PAUSE, 0.0
        self._connected = False
        self._process, self._channel = self._spawn()
        try:
            while not self._connected:
                for answer in self.read(None):
                    self._check(answer)
        except BaseException:
            self.close(keep=True)
            raise

    def _check(self, answer: Answer) -> None:
        if isinstance(answer, Refused):
            raise ConfigError(answer.reason)
        if isinstance(answer, Gone):
            see = f" (see {self._log})" if self._log else ""
            raise ConfigError(f"[executor] address: Ray gave up connecting to the cluster{see}")

    def _spawn(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        ours, theirs = socket.socketpair()
        if self._log is not None:
            self._log.parent.mkdir(parents=True, exist_ok=True)
        environment = environment_with_token()
        environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
        module, fd = "lm_searcher.tools.executors.cluster.driver", theirs.fileno()
        with theirs, open(self._log or os.devnull, "ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", module, str(fd)],
                pass_fds=[fd],
                stdin=subprocess.DEVNULL,
                stdout=file if self._log else 2,
                stderr=file,
                env=environment,
            )
        _log.debug("driver process %d started", process.pid)
        with contextlib.suppress(ConnectionError):  # it has died, as `read` will find
            send(ours, pickle.dumps(self._connect))
        return process, ours

    def send(self, command: Command) -> None:
        """Send to the driver; lost if there is none."""
        if self._connected:
            with contextlib.suppress(ConnectionError):  # as `read` will find
                send(self._channel, pickle.dumps(command))

    def read(self, timeout: float | None) -> list[Answer]:
        """All messages there are; waits up to `timeout` seconds for the first.

        `Gone` when a driver has ended that was connected; `Connected` when another is.
        """
        if self._process.returncode is not None:
            pause = max(0.0, self._next - time.monotonic())
            time.sleep(pause if timeout is None else min(timeout, pause))
            if time.monotonic() < self._next:
                return []
            self._process, self._channel = self._spawn()
        answers: list[Answer] = []
        while select.select([self._channel], [], [], 0.0 if answers else timeout)[0]:
            try:
                answer: Answer = pickle.loads(receive(self._channel)[0])
            except (EOFError, ConnectionError):
                return [*answers, *self._lost()]
            if isinstance(answer, Connected):
                self._connected, self._pause = True, PAUSE
            answers.append(answer)
        return answers

    def _lost(self) -> list[Answer]:
        self._channel.close()
        self._process.wait()
        _log.debug("driver process %d ended", self._process.pid)
        was_connected, self._connected = self._connected, False
        self._next = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return [Gone()] if was_connected else []

    def close(self, keep: bool) -> None:
        """Have the driver end, and its slots; with `keep`, only those that hold nothing."""
        if self._process.returncode is not None:
            return
        self.send(Close(keep))
        if not self._connected:
            self._process.kill()
        try:
            self._process.wait(timeout=CLOSING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._connected = False
        self._channel.close()
