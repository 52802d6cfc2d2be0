"""Logging under the name `lm_searcher`: silent unless `configure_logging` is called.

Modules log to children of that name, such as `lm_searcher.executors`.
"""

from __future__ import annotations

import logging

ROOT = "lm_searcher"


def configure_logging(verbose: int) -> None:
    """Write log records to the standard error: warnings for 0, information for 1, all from 2.

    A second call changes the level only.
    """
    from rich.console import Console
    from rich.logging import RichHandler

    logger = logging.getLogger(ROOT)
    logger.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG))
    if not any(isinstance(handler, RichHandler) for handler in logger.handlers):
        logger.addHandler(RichHandler(console=Console(stderr=True), show_path=False))
