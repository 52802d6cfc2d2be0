"""Stores of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_searcher.agent.study.storage import MEMORY


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'trials.db'}"


def _url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite"))
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres").url())
    return MEMORY


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """A store without runs."""
    return _url(request)


@pytest.fixture(params=["sqlite", "postgresql"])
def kept_url(request: pytest.FixtureRequest) -> str:
    """A store without runs that outlives the process."""
    return _url(request)
