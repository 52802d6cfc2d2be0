"""Files that appear complete or not at all, and lock files."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager
from io import BufferedWriter
from pathlib import Path

from filelock import FileLock, Timeout

_log = logging.getLogger("lm_searcher.files")


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BufferedWriter]:
    """A binary file to write that replaces `path` when the block ends.

    It is on the disk before it gets its name, so a reader finds the old contents or the new ones,
    even after a power cut. Its permissions follow the process's umask. If the block raises,
    nothing is left behind; if the process is killed, `unfinished` finds the rest. Raises OSError.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: str | bytes) -> None:
    """Write a whole file as `atomic_file` does, text as UTF-8.

    Raises OSError, and UnicodeError for text that has no UTF-8.
    """
    encoded = data.encode() if isinstance(data, str) else data
    with atomic_file(path) as file:
        file.write(encoded)


def unfinished(path: Path) -> list[Path]:
    """Partial files that killed processes left of `path`, and those being written now."""
    return [p for p in path.parent.glob(".*.part") if p.name.startswith(f".{path.name}.")]


def file_lock(path: Path, timeout: float | None = None) -> AbstractContextManager[object]:
    """Acquire the lock file `path`; leaving the returned context releases it.

    The operating system releases it too, however the process ends. Waits for `timeout` seconds
    (None: without limit) and then raises TimeoutError. Raises OSError if `path` cannot be
    written, so catch TimeoutError, a subclass, first.
    """
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        if timeout == 0:
            raise
    _log.info("waiting for the lock %s", path)
    return lock.acquire(timeout=-1 if timeout is None else timeout)
