"""The library logs under one name, and prints only when asked."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from lm_searcher.tools.logs import ROOT, configure_logging


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """The library's logger, put back afterwards."""
    logger = logging.getLogger(ROOT)
    handlers, level = list(logger.handlers), logger.level
    yield logger
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_the_library_is_silent(logger: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logger.handlers)
    assert not any(type(h) is not logging.NullHandler for h in logger.handlers)
    logger.getChild("files").warning("a warning")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("verbose", "shown"),
    [(0, {"warning"}), (1, {"warning", "info"}), (2, {"warning", "info", "debug"})],
)
def test_records_go_to_the_standard_error(
    verbose: int, shown: set[str], logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # a second call adds no second handler
        configure_logging(verbose)
    child = logging.getLogger(f"{ROOT}.somewhere")
    for level in ("debug", "info", "warning"):
        getattr(child, level)("record of level %s.", level)
    out, err = capsys.readouterr()
    assert out == ""
    for level in ("debug", "info", "warning"):
        assert err.count(f"level {level}.") == (level in shown)
