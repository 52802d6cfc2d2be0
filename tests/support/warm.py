"""Python processes without the start of an interpreter.

A server imports the command line and the search once, then forks for every request. What it
forks behaves as `python ARGUMENTS` would: its own arguments, folder, environment, standard files,
exit code and signals. What only a fresh interpreter can show (which modules are loaded, variables
that are read at import) needs `subprocess`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

ALWAYS = ["lm_searcher.agent.cli.app", "lm_searcher.agent.search"]
"""What the server imports at once; a request names what else its process will need."""


class WarmProcess:
    """As `subprocess.Popen(["python", *arguments], text=True)`, with pipes unless `tty` is given.

    `tty` is the file descriptor of a terminal that becomes the process's own.
    """

    def __init__(
        self,
        server: str,
        arguments: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        imports: Sequence[str] = (),
        new_session: bool = False,
        tty: int | None = None,
    ) -> None:
        self.returncode: int | None = None
        self.stdin: IO[str] | None = None
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        if tty is None:
            (its_in, ours_in), (ours_out, its_out), (ours_err, its_err) = (
                os.pipe() for _ in range(3)
            )
            its = [its_in, its_out, its_err]
            self.stdin = os.fdopen(ours_in, "w")
            self.stdout, self.stderr = os.fdopen(ours_out), os.fdopen(ours_err)
        else:
            its = [tty] * 3
        request = {
            "arguments": list(arguments),
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "imports": list(imports),
            "session": new_session or tty is not None,
            "tty": tty is not None,
        }
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(server)
        socket.send_fds(self._connection, [b"."], its)
        with self._connection.makefile("w") as out:
            out.write(json.dumps(request) + "\n")
        for each in its if tty is None else ():
            os.close(each)
        self._replies = self._connection.makefile()
        self.pid = int(self._replies.readline())

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; negative for a signal, as in subprocess."""
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._connection, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = int(self._replies.readline())
            self._replies.close()
            self._connection.close()
        return self.returncode

    def poll(self) -> int | None:
        """The exit code; None while the process lives."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What remains of its output and of its errors, once it has ended."""
        assert self.stdin is not None and self.stdout is not None and self.stderr is not None
        self.stdin.close()
        found: dict[str, str] = {}

        def read(name: str, file: IO[str]) -> None:
            with file:
                found[name] = file.read()

        files = {"out": self.stdout, "err": self.stderr}
        threads = [threading.Thread(target=read, args=each, daemon=True) for each in files.items()]
        for thread in threads:
            thread.start()
        self.wait(timeout)
        for thread in threads:
            thread.join(timeout)
        return found["out"], found["err"]

    def send_signal(self, number: int) -> None:
        """Nothing if it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """End it, and close what is open."""
        self.kill()
        self.wait()
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None and not file.closed:
                file.close()


def _serve(path: str) -> Callable[[], None]:
    """Fork for each request until the input ends; returns in each fork, with what it is to do."""
    for name in ALWAYS:
        importlib.import_module(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    living: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(path)
        listener.listen()
        for source in (listener, woken, sys.stdin):
            selector.register(source, selectors.EVENT_READ)
        print("ready", flush=True)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                os.read(woken, 4096)
                _tell_ends(living)
            if listener in ready:
                connection, _ = listener.accept()
                request, files = _received(connection)
                if (pid := os.fork()) == 0:
                    for each in (connection, *living.values()):
                        each.close()
                    os.close(woken)
                    os.close(wake)
                    return lambda: _become(request, files)
                for file in files:
                    os.close(file)
                living[pid] = connection
                connection.sendall(f"{pid}\n".encode())
            if sys.stdin in ready:
                return lambda: None


def _tell_ends(living: dict[int, socket.socket]) -> None:
    """Send the exit code of each process that has ended to whoever started it."""
    while living:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with living.pop(pid) as connection, contextlib.suppress(BrokenPipeError):
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _received(connection: socket.socket) -> tuple[dict[str, object], list[int]]:
    """A request and its standard files; the modules that it needs are imported."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile() as lines:
        request = json.loads(lines.readline())
    for name in request["imports"]:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork would lose the other threads"
    return request, files


def _become(request: dict[str, object], files: list[int]) -> None:
    """In the fork: be the Python process that was asked for."""
    import fcntl
    import termios

    import numpy

    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["session"]:
        os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    if request["tty"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1, closefd=False)
    os.environ.clear()
    os.environ.update(request["env"])  # type: ignore[call-overload]
    os.chdir(str(request["cwd"]))
    random.seed()
    numpy.random.seed()
    first, *rest = request["arguments"]  # type: ignore[misc]
    paths = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    sys.path[:0] = [p for p in paths if p not in sys.path]
    if first in ("-m", "-c"):
        sys.path.insert(0, os.getcwd())
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *rest[1:]]
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), module.__dict__)
    else:
        sys.argv = [first, *rest]
        sys.path.insert(0, os.path.dirname(first))
        runpy.run_path(first, run_name="__main__")


if __name__ == "__main__":
    _serve(sys.argv[1])()
