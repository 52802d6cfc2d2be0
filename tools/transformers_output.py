"""What transformers prints on its own, switched off: a search draws its own progress."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


def hide_progress_bars() -> None:
    """No progress bars of transformers in this process."""
    _logging().disable_progress_bar()


@contextlib.contextmanager
def errors_only() -> Iterator[None]:
    """No progress bars, and no warnings of transformers until the context ends."""
    hide_progress_bars()
    logging = _logging()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _logging() -> Any:  # the module's functions have no types
    from transformers.utils import logging

    return logging
