"""Who drives a run: a process, by names under which it is known on its host and elsewhere."""

from __future__ import annotations

import json
import os
import platform
import secrets
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Self

import psutil


@dataclass(frozen=True)
class Owner:
    """A process that drives a run."""

    host: str = ""
    boot: str = ""
    """The start of the host's operating system, and the processes that can be seen from there."""
    pid: int = 0
    started: float = 0.0
    """When the process was started, which tells it from a later one of the same number."""
    token: str = ""
    """Of each opening its own: two of one process exclude each other too."""

    @classmethod
    def of_this_process(cls) -> Self:
        """A new owner in this process."""
        pid = os.getpid()
        return cls(platform.node(), boot_id(), pid, start_of(pid) or 0.0, secrets.token_hex(4))

    @classmethod
    def parse(cls, text: str) -> Self:
        """An owner as stored; without a name if it cannot be read."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return cls()

    @property
    def text(self) -> str:
        """As it is stored."""
        return json.dumps(asdict(self))

    def __str__(self) -> str:
        return f"{self.host or 'an unknown host'}, process {self.pid}"

    @property
    def known_dead(self) -> bool:
        """Whether the process was of this host, and is no more; False if that cannot be known."""
        if (self.host, self.boot) != (platform.node(), boot_id()):
            return False
        try:
            return start_of(self.pid) != self.started
        except PermissionError:
            return False


@cache
def boot_id() -> str:
    """Names the boot of the operating system and the namespace of process numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux
        return f"{psutil.boot_time():.0f}"


def start_of(pid: int) -> float | None:
    """When a process was started, on a clock of its own; None if it has ended.

    Raises PermissionError for a process of another user that is hidden from this one.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else float(fields[19])
    except OSError:  # no process, a hidden one, or no Linux
        pass
    try:
        os.kill(max(pid, 1), 0)
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time())
    except (ProcessLookupError, psutil.Error):
        return None
