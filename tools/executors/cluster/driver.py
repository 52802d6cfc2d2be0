"""The process that uses Ray for a `RayExecutor`.

Run as ``python -m lm_searcher.tools.executors.cluster.driver FD``, where FD is one end of a socket
pair whose other end the executor holds. Both ends send pickles of `messages`. Its standard output
is for the output of evaluations, its standard error for Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import sys
from dataclasses import replace
from typing import NoReturn

import ray

from lm_searcher.spaces.errors import UserError
from lm_searcher.tools.executors.cluster.connecting import connect
from lm_searcher.tools.executors.cluster.messages import (
    Answer,
    Close,
    Command,
    Connect,
    Connected,
    Note,
    Refused,
    Settle,
    Stop,
    Submit,
    Taken,
)
from lm_searcher.tools.executors.cluster.nodes import Node, living_nodes
from lm_searcher.tools.executors.cluster.pool import Pool
from lm_searcher.tools.executors.worker import HEADER, receive, send

NODES_SECONDS = 1.0
"""Between two looks at the nodes of the cluster."""

SILENCE = 10.0
"""Seconds without an answer after which the user is told that the cluster is silent."""


class Driver:
    """Serves the executor until it closes its end."""

    def __init__(self, message: Connect, channel: socket.socket, output: int) -> None:
        self._channel, self._output, self._work = channel, output, message.work
        self._node = ray.get_runtime_context().get_node_id()
        self._writer: asyncio.StreamWriter | None = None
        self._pool = Pool(message.work, message.name, message.workers, self.answer, self._show)

    async def run(self) -> NoReturn:
        """Do what the executor asks for."""
        reader, self._writer = await asyncio.open_connection(sock=self._channel)
        self.answer(Connected())
        looking = asyncio.create_task(self._follow_nodes())
        looking.add_done_callback(_leave_after)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
                command: Command = pickle.loads(await reader.readexactly(size))
                if isinstance(command, Close):
                    if not command.keep:
                        await self._pool.await_discovery()
                    looking.cancel()
                    await self._pool.close(command.keep)
                    break
                self._do(command)
        leave()

    def _do(self, command: Command) -> None:
        match command:
            case Submit():
                self._pool.submit(command)
            case Taken(keys):
                for key in keys:
                    self._pool.tasks.recorded(key)
            case Stop(key):
                self._pool.stop(key)
            case Settle():
                self._pool.tasks.settle()

    def answer(self, answer: Answer) -> None:
        """Send to the executor."""
        assert self._writer is not None
        content = pickle.dumps(answer)
        self._writer.write(HEADER.pack(len(content)) + content)

    def _show(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._output, text.encode())

    async def _follow_nodes(self) -> None:
        """Have the places that the cluster has room for, as its nodes come and go."""
        await self._pool.discover(await self._nodes())
        while True:
            await asyncio.sleep(NODES_SECONDS)
            self._pool.adjust(await self._nodes())

    async def _nodes(self) -> list[Node]:
        """The living nodes; waits for the cluster if it is silent."""
        asked = asyncio.create_task(asyncio.to_thread(ray.nodes))
        done, _ = await asyncio.wait([asked], timeout=SILENCE)
        if not done:
            self.answer(Note("the Ray cluster does not answer; waiting for it"))
        nodes = living_nodes(await asked, self._work.gpus, self._work.cpus)
        if self._node not in {node.id for node in nodes}:
            leave("this machine is no node of the cluster any more")
        if not done:
            self.answer(Note("the Ray cluster answers again"))
        return nodes


def leave(reason: str = "") -> NoReturn:
    """End this process at once: Ray's own way waits for a cluster that may be gone."""
    print(reason, file=sys.stderr, flush=True)
    os._exit(0)


def _leave_after(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        leave(f"{type(error).__name__}: {error}")


def main(argv: list[str] | None = None) -> None:
    """Serve on the inherited socket until the executor closes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the controller reacts to Ctrl-C
    channel = socket.socket(fileno=int((sys.argv[1:] if argv is None else argv)[0]))
    output = os.dup(1)
    os.dup2(2, 1)
    with contextlib.suppress(EOFError, ConnectionError):
        message: Connect = pickle.loads(receive(channel)[0])
        try:
            work = connect(message)
        except UserError as error:
            send(channel, pickle.dumps(Refused(str(error))))
            leave()
        driver = Driver(replace(message, work=work), channel, output)
        asyncio.run(driver.run())


if __name__ == "__main__":
    main()
