"""The protocol of executors: they run evaluations at places, and say what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from lm_searcher.tools.protocols import Evaluation, Outcome


@dataclass(frozen=True)
class Began:
    """An evaluation has begun, or was found running by a controller that took a run over."""

    key: int
    place: str = ""
    """Where it runs, for users: `gpu 0`, `node-3 gpu 1`; empty where there is one place only."""


@dataclass(frozen=True)
class Reported:
    """A point of a running evaluation's learning curve."""

    key: int
    step: int
    value: float


@dataclass(frozen=True)
class Ended:
    """An evaluation has ended, or its place was lost."""

    key: int
    outcome: Outcome | None
    """None: the place was lost with its evaluation (node, worker, the kernel's out-of-memory
    kill). That says nothing about the architecture: it is to be evaluated again."""
    lost: str = ""
    """Why the place was lost."""
    attempt: int = 1
    """As given to `submit`."""


Event = Began | Reported | Ended


class Executor(Protocol):
    """Runs evaluations at places: processes, GPUs, nodes. Evaluations live here, never in the
    graph's state. Only one thread calls the methods, `cancel` excepted."""

    def room(self) -> int:
        """How many evaluations may be submitted now; follows places that come and go."""
        ...

    def submit(self, evaluation: Evaluation, attempt: int = 1) -> None:
        """Begin an evaluation; returns at once. At most `room()` of them.

        `attempt` counts the places that this evaluation has had. Submitted again with the same
        key and attempt by a controller that took the run over, an evaluation that still runs, or
        whose outcome waits, is found again and not begun anew.
        """
        ...

    def poll(self, timeout: float) -> list[Event]:
        """What has happened since the last call; waits up to `timeout` seconds for something.

        Empty at once if no evaluation is under way. An evaluation that has reported waits for the
        next call, so that `stop` between the two ends it at that very report; at a remote place
        it may go on to a later one. Raises Cancelled after `cancel`.
        """
        ...

    def stop(self, key: int) -> None:
        """Stop an evaluation early: its report returns True, its outcome is `stopped`. A key that
        is not running is ignored."""
        ...

    def cancel(self, after: float = 0.0) -> None:
        """Make `poll` raise Cancelled after `after` seconds. Safe to call in a signal handler."""
        ...

    def close(self, keep: bool = False) -> None:
        """Let go of all places, and wait until their processes are gone. With `keep`, evaluations
        at places that outlive the controller go on, and are found again by `submit`."""
        ...


@runtime_checkable
class NotingExecutor(Executor, Protocol):
    """An executor that has to say something of its places; `poll` then returns early."""

    notes: list[str]
    """Messages for the user; the caller shows each once and removes it."""


@dataclass(frozen=True)
class Site:
    """The run that an executor works for."""

    id: str = ""
    """Unique among all runs, and the same when a run goes on."""
    name: str = ""
    url: str = ""
    """The run's store."""
    log: Path | None = None
    """The file that the output of evaluations is appended to; None: this process's stderr."""
    described: bool = True
    """Whether the run has stored how its evaluator is made, for processes elsewhere."""
