"""One process at a time drives a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.spaces.errors import StoreError
from lm_searcher.tools.files import file_lock


def is_driven(files: RunFiles) -> bool:
    """Whether some process drives the run now."""
    if not files.kept or not files.lock.exists():
        return False
    try:
        with file_lock(files.lock, timeout=0):
            return False
    except TimeoutError:
        return True


@contextlib.contextmanager
def run_lock(files: RunFiles) -> Iterator[None]:
    """Drive the run alone. The lock ends with the process, however that ends.

    Raises StoreError if another process holds it.
    """
    if not files.kept:
        yield
        return
    try:
        files.folder.mkdir(parents=True, exist_ok=True)
        lock = file_lock(files.lock, timeout=1)  # `is_driven` holds the lock for an instant
    except TimeoutError:
        raise StoreError(
            f"run '{files.name}' is locked: another process drives it (lock '{files.lock}'); "
            "wait for it, end it, or choose another --name"
        ) from None
    except OSError as error:
        raise StoreError(f"run '{files.name}': cannot write '{files.lock}': {error}") from None
    with lock:
        yield
