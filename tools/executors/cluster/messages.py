"""What the executor, its driver process and the slots tell each other."""

from __future__ import annotations

from dataclasses import dataclass

from lm_searcher.tools.executors.protocol import Ended, Event, Reported
from lm_searcher.tools.protocols import Evaluation

Owner = tuple[int, str]
"""A controller: a number that grows with every controller of the run, and a name. A slot obeys the
greatest that it has heard of."""

# -- executor and driver ---------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """How slots evaluate."""

    evaluator: bytes
    """Pickled: only the worker processes load it."""
    seconds: float | None
    memory: int | None
    gpus: float
    cpus: float
    orphan: float
    folder: str
    """The controller's working directory, and its import path: used where a node has them."""
    path: tuple[str, ...]


@dataclass(frozen=True)
class Connect:
    """The first message to the driver."""

    address: str
    namespace: str
    name: str
    """Of the controller, unique."""
    workers: int
    work: Work
    gpus: float | None
    """None: 1 where the cluster has GPUs."""
    cpus: float | None


@dataclass(frozen=True)
class Submit:
    evaluation: Evaluation
    attempt: int
    begun: bool = False
    """It had begun when an earlier driver ended: if no slot knows it, its place was lost."""
    reports: int = 0
    """How many of its reports are known."""


@dataclass(frozen=True)
class Taken:
    """These outcomes are recorded; the slots may forget them."""

    keys: tuple[int, ...]


@dataclass(frozen=True)
class Settle:
    """All evaluations that are to be found again have been submitted."""


@dataclass(frozen=True)
class Stop:
    key: int


@dataclass(frozen=True)
class Close:
    keep: bool


Command = Submit | Taken | Settle | Stop | Close


@dataclass(frozen=True)
class Connected:
    """The driver is connected to the cluster."""


@dataclass(frozen=True)
class Refused:
    """The driver cannot do its work, and ends."""

    reason: str


@dataclass(frozen=True)
class Happened:
    events: tuple[Event, ...]
    places: int
    """Slots that are free, or evaluate what was submitted."""


@dataclass(frozen=True)
class Note:
    """For the user."""

    text: str


@dataclass(frozen=True)
class Gone:
    """The driver has ended: Ray does that when the cluster has been gone for a minute."""


Answer = Connected | Refused | Happened | Note | Gone

# -- driver and slots ------------------------------------------------------------------------

Item = Reported | Ended | str
"""What became of an evaluation in a slot; text is output of the evaluation."""


@dataclass(frozen=True)
class Holding:
    """An evaluation that a slot runs, or whose outcome it keeps."""

    key: int
    attempt: int
    serial: int
    """Grows with every evaluation of the slot."""


@dataclass(frozen=True)
class Greeting:
    """A slot's answer to a controller."""

    owner: Owner
    """Whom it obeys."""
    place: str = ""
    """Where it is, for users."""
    devices: str = ""
    """Its GPUs; empty for none."""
    serial: int = 0
    """Of its newest evaluation."""
    holdings: tuple[Holding, ...] = ()
