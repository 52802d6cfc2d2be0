"""One process at a time drives a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from filelock import FileLock, Timeout

from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.spaces.errors import StoreError


def is_driven(files: RunFiles) -> bool:
    """Whether some process drives the run now."""
    if not files.kept or not files.lock.exists():
        return False
    lock = FileLock(files.lock)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


@contextlib.contextmanager
def run_lock(files: RunFiles) -> Iterator[None]:
    """Drive the run alone. The system lets go of the lock however the process ends.

    Raises StoreError if another process holds it.
    """
    if not files.kept:
        yield
        return
    try:
        files.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(files.lock)
        lock.acquire(timeout=1)  # whoever looks whether a run is driven holds it for an instant
    except Timeout:
        raise StoreError(
            f"run '{files.name}' is locked: another process drives it (lock '{files.lock}'); "
            "wait for it, end it, or choose another --name"
        ) from None
    except OSError as error:
        raise StoreError(f"run '{files.name}': cannot write '{files.lock}': {error}") from None
    try:
        yield
    finally:
        lock.release()
