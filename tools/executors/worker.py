"""A worker process: imports once, then forks a fresh child for every evaluation.

Run as ``python -m lm_searcher.tools.executors.worker FD``, where FD is one end of a socket pair
whose other end the executor holds. A fork costs milliseconds where a new interpreter costs seconds
of imports, and what an evaluation leaks, breaks or exhausts ends with its process.

What passes over the socket, as pickles (both ends are this package's own processes):
    executor -> worker   the evaluator, once; then (evaluation, limits) with one end of a pipe
    worker -> executor   ("ready", None) or ("error", text); then ("pid", pid), ("exit", status)
and over the evaluation's own pipe:
    child -> executor    ("report", step, value), answered by a bool; then
                         ("result", metrics) or ("failure", reason)

The child leads a process group of its own, which is killed whole when the child ends, and when
the executor's end of the socket closes: nothing outlives the controller, however it died.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import numbers
import os
import pickle
import resource
import select
import signal
import socket
import struct
import sys
import traceback
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

from lm_searcher.spaces.errors import TrialFailure, UserError
from lm_searcher.tools.protocols import Evaluation, Evaluator, Metrics

PR_SET_PDEATHSIG = 1
HEADER = struct.Struct("!Q")


def send(channel: socket.socket, message: bytes, fds: tuple[int, ...] = ()) -> None:
    """One message, with open files attached to its header."""
    socket.send_fds(channel, [HEADER.pack(len(message))], fds)
    channel.sendall(message)


def receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """The next message and the files that came with it. Raises EOFError at the end."""
    header, fds, _, _ = socket.recv_fds(channel, HEADER.size, 1)
    if not header:
        raise EOFError
    (left,) = HEADER.unpack(header)
    parts = []
    while left:
        part = channel.recv(min(left, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        left -= len(part)
    return b"".join(parts), fds


def checked(metrics: object, metric: str) -> Metrics:
    """The metrics as floats; other values than numbers become NaN.

    Raises TrialFailure if `metric` is no finite number, or if there are no metrics at all; whether
    the required metrics are there is for the controller to say.
    """
    if isinstance(metrics, numbers.Real) and not isinstance(metrics, bool):
        metrics = {metric: metrics}
    if not isinstance(metrics, dict) or not metrics:
        raise TrialFailure(
            f"the evaluator returned {_shown(metrics)}; "
            "accepted: a number, or a dict of metric -> number"
        )
    result = {}
    for name, value in metrics.items():
        try:
            number = float(value) if not isinstance(value, str | bytes) else math.nan
        except (TypeError, ValueError):
            number = math.nan
        if name == metric and not math.isfinite(number):
            raise TrialFailure(f"'{metric}' is {_shown(value)}, not a finite number")
        result[str(name)] = number
    return result


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text[:60]} ({type(value).__name__})"


def reason_of(error: BaseException) -> str:
    """The one line that a failed trial keeps of an exception."""
    text = " ".join(str(error).split())
    if isinstance(error, TrialFailure):
        return text
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate" in text:
        return f"out of memory: {text[:200]}" if text else "out of memory"
    if isinstance(error, SystemExit):
        return f"exited with code {error.code}"
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def measure(evaluator: Evaluator, evaluation: Evaluation, pipe: Connection) -> None:
    """Evaluate in this process and send what came of it."""

    def report(step: int, value: float) -> bool:
        pipe.send(("report", int(step), float(value)))
        return bool(pipe.recv())

    try:
        metrics = checked(evaluator.evaluate(evaluation, report), evaluator.metric)
    except Exception as error:  # the evaluation boundary: whatever happens is the trial's reason
        if not isinstance(error, TrialFailure):
            traceback.print_exc()  # to the run's log
        pipe.send(("failure", reason_of(error)))
    else:
        pipe.send(("result", metrics))


def _child(evaluator: Evaluator, evaluation: Evaluation, memory: int | None, fd: int) -> None:
    os.setsid()
    if sys.platform == "linux":
        # Short of memory, the kernel should end the trial and not the controller.
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    code = 0
    try:
        measure(evaluator, evaluation, Connection(fd))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        code = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code & 0xFF)


def _wait(pid: int, channel: socket.socket, wakeup: int) -> int:
    """The child's exit status; raises EOFError when the executor has gone."""
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        ready, _, _ = select.select([channel.fileno(), wakeup], [], [])
        if channel.fileno() in ready:  # between evaluations the executor sends nothing: it has gone
            raise EOFError
        with contextlib.suppress(BlockingIOError):
            os.read(wakeup, 512)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def serve(channel: socket.socket) -> None:
    """Prepare the evaluator, then fork for every evaluation until the executor is gone."""
    wakeup, waker = os.pipe()
    os.set_blocking(wakeup, False)
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    evaluator: Evaluator = cloudpickle.loads(receive(channel)[0])
    try:
        evaluator.prepare()
    except UserError as error:
        send(channel, pickle.dumps(("error", str(error))))
        return
    send(channel, pickle.dumps(("ready", None)))
    while True:
        message, (fd,) = receive(channel)
        evaluation, memory = pickle.loads(message)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            channel.close()
            _child(evaluator, evaluation, memory, fd)
        os.close(fd)
        send(channel, pickle.dumps(("pid", pid)))
        try:
            status = _wait(pid, channel, wakeup)
        finally:
            _kill_group(pid)  # with whatever it started
        send(channel, pickle.dumps(("exit", os.waitstatus_to_exitcode(status))))


def main(argv: list[str] | None = None) -> None:
    """Serve on the inherited socket; ends quietly when the executor does."""
    arguments: list[Any] = sys.argv[1:] if argv is None else argv
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the controller's to answer
    channel = socket.socket(fileno=int(arguments[0]))
    with channel, contextlib.suppress(EOFError, ConnectionError):
        serve(channel)


if __name__ == "__main__":
    main()
