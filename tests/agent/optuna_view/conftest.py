"""Stored runs for the tests of the view."""

from __future__ import annotations

from pathlib import Path

import pytest
from stores import fill, open_store

from lm_searcher.agent.study.paths import RunFiles


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of runs that has one, with a trial of each kind."""
    with open_store(RunFiles.of("one", tmp_path, None).url, "one") as store:
        fill(store)
    return tmp_path
