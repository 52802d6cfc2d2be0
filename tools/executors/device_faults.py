"""Crashes of evaluations that share a GPU: of one architecture, or of the GPU with all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from lm_searcher.tools.executors.protocol import Ended

FAULT_SECONDS = 3.0
"""Crashes on one GPU within this time have one cause: under NVIDIA's multi-process service a
fault of one process ends all that use the GPU."""


@dataclass
class _Crash:
    worker: int
    device: str
    at: float
    ended: Ended
    settled: bool = False


@dataclass
class DeviceFaults:
    """Holds crashes back until it is known whether another worker of the same GPU crashes too."""

    _crashes: list[_Crash] = field(default_factory=list)

    def hold(self, worker: int, device: str, at: float, ended: Ended) -> None:
        """The evaluation of a worker crashed at the time `at`."""
        self._crashes.append(_Crash(worker, device, at, ended))

    @property
    def held(self) -> set[int]:
        """The workers whose crash is held back."""
        return {crash.worker for crash in self._crashes if not crash.settled}

    def due(self) -> float:
        """When the next crash is settled by itself."""
        held = (crash.at for crash in self._crashes if not crash.settled)
        return min(held, default=math.inf) + FAULT_SECONDS

    def settle(self, now: float) -> list[Ended]:
        """What becomes of the crashes whose cause is known: losses, or the failures they were.

        Call it after all messages sent until `now` have been read.
        """
        settled = []
        for crash in self._crashes:
            if crash.settled:
                continue
            if self._is_shared(crash):
                reason = crash.ended.outcome.reason if crash.ended.outcome else crash.ended.lost
                lost = f"several evaluations crashed on gpu {crash.device}: {reason}"
                settled.append(replace(crash.ended, outcome=None, lost=lost))
            elif now >= crash.at + FAULT_SECONDS:
                settled.append(crash.ended)
            else:
                continue
            crash.settled = True
        # A settled crash still tells the cause of those that follow it.
        self._crashes = [
            c for c in self._crashes if not c.settled or now < c.at + 2 * FAULT_SECONDS
        ]
        return settled

    def _is_shared(self, crash: _Crash) -> bool:
        return any(
            other.device == crash.device
            and other.worker != crash.worker
            and abs(other.at - crash.at) < FAULT_SECONDS
            for other in self._crashes
        )
