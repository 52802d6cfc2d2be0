"""A worker process: imports once, then forks a child for every evaluation.

Run as ``python -m lm_searcher.tools.executors.worker FD``, where FD is one end of a socket pair
whose other end the executor holds. A fork costs milliseconds where a new interpreter costs seconds
of imports, and leaks, crashes and lack of memory of an evaluation end with its process.

Messages on the socket, as pickles (both ends are this package's own processes):
    executor -> worker   the evaluator, once; then (evaluation, memory) with one end of a pipe
    worker -> executor   ("ready", None) or ("error", text);
                         then ("pid", pid), ("exit", (code, time))
Messages on the evaluation's own pipe:
    child -> executor    ("report", (step, value, time)), answered by a bool; then
                         ("result", metrics) or ("failure", reason)
Times are of the monotonic clock, which all processes of a machine share: the executor may read a
message long after it was sent.

The child leads a process group of its own, which is killed whole when the child ends, and when
the executor's end of the socket closes: nothing outlives the controller, however it died.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

from lm_searcher.spaces.errors import TrialFailure, UserError
from lm_searcher.tools.child_process import end_with_parent
from lm_searcher.tools.executors.outcome_check import checked_metrics, failure_reason
from lm_searcher.tools.protocols import Evaluation, Evaluator

HEADER = struct.Struct("!Q")


def send(channel: socket.socket, message: bytes, fds: tuple[int, ...] = ()) -> None:
    """Send one message, with open files attached to its header."""
    socket.send_fds(channel, [HEADER.pack(len(message))], fds)
    channel.sendall(message)


def receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """Receive the next message and its open files. Raises EOFError if the other end is closed."""
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


def evaluate(evaluator: Evaluator, evaluation: Evaluation, pipe: Connection) -> None:
    """Evaluate in this process and send the result or the reason of the failure."""

    def report(step: int, value: float) -> bool:
        pipe.send(("report", (int(step), float(value), time.monotonic())))
        return bool(pipe.recv())

    try:
        metrics = checked_metrics(evaluator.evaluate(evaluation, report), evaluator.metric)
    except Exception as error:  # the evaluation boundary
        if not isinstance(error, TrialFailure):
            traceback.print_exc()  # to the run's log
        pipe.send(("failure", failure_reason(error)))
    else:
        pipe.send(("result", metrics))


def _leave_sigterm_to_controller() -> None:
    """Ignore SIGTERM in this process. A scheduler sends it to all processes of a job, and the
    controller may let an evaluation finish; what an evaluation forks ends by it as usual."""
    mine = os.getpid()

    def received(number: int, frame: object) -> None:
        if os.getpid() != mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, received)


def _child(evaluator: Evaluator, evaluation: Evaluation, memory: int | None, fd: int) -> None:
    os.setsid()  # leads a process group of its own
    if sys.platform == "linux":
        # When memory runs out, the kernel should kill the trial and not the controller.
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    end_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _leave_sigterm_to_controller()
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    code = 0
    try:
        evaluate(evaluator, evaluation, Connection(fd))
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
    """The child's exit status. Raises EOFError if the executor closes the socket first."""
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        ready, _, _ = select.select([channel.fileno(), wakeup], [], [])
        if channel.fileno() in ready:  # closed: it sends nothing during an evaluation
            raise EOFError
        with contextlib.suppress(BlockingIOError):
            os.read(wakeup, 512)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def serve(channel: socket.socket) -> None:
    """Prepare the evaluator, then fork for every evaluation.

    Raises EOFError when the executor closes the socket.
    """
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
            _kill_group(pid)  # and every process that the evaluation started
        ended = os.waitstatus_to_exitcode(status), time.monotonic()
        send(channel, pickle.dumps(("exit", ended)))


def main(argv: list[str] | None = None) -> None:
    """Serve on the inherited socket until the executor closes it."""
    arguments: list[Any] = sys.argv[1:] if argv is None else argv
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the controller reacts to Ctrl-C
    _leave_sigterm_to_controller()
    channel = socket.socket(fileno=int(arguments[0]))
    with channel, contextlib.suppress(EOFError, ConnectionError):
        serve(channel)


if __name__ == "__main__":
    main()
