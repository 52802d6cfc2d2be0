"""The documentation's pages: their length, links, figures and keys; and the site that they make."""

from __future__ import annotations

import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from pydantic import BaseModel

from lm_searcher.agent.settings.train_lm import LMFile
from lm_searcher.agent.settings.train_ranker import InContextFile

ROOT = Path(__file__).parents[1]
TOP = ("README.md", "ARCHITECTURE.md", "AGENTS.md", "CONTRIBUTING.md")


@pytest.mark.parametrize(("name", "lines"), [("README.md", 150), ("AGENTS.md", 80)])
def test_a_page_stays_short(name: str, lines: int) -> None:
    assert len((ROOT / name).read_text().splitlines()) < lines


@pytest.mark.parametrize("name", TOP)
def test_the_links_of_the_top_pages_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text()):
        assert "://" in target or (ROOT / target).is_file(), f"{name}: {target}"


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "AGENTS.md", "CONTRIBUTING.md"])
def test_the_files_of_a_top_page_exist(name: str) -> None:
    for path in re.findall(r"`((?:[a-z_]+/)+(?:[a-z_]+\.py)?)`", (ROOT / name).read_text()):
        assert (ROOT / path).exists(), f"{name}: {path}"


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "docs/how-it-works.md"])
def test_the_figure_is_the_graphs(name: str) -> None:
    graph = (ROOT / "agent" / "graph.py").read_text()
    figure = next(line.strip() for line in graph.splitlines() if "START ->" in line)
    assert figure in (ROOT / name).read_text().splitlines()


@pytest.mark.slow
def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="([^"]+)"', page.read_text())
        assert not [url for url in loaded if "//" in url], page


def keys(model: type[BaseModel]) -> set[str]:
    """The keys of a file, those of its tables and lists of tables included."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        candidates = (field.annotation, *typing.get_args(field.annotation))
        tables = [t for t in candidates if isinstance(t, type) and issubclass(t, BaseModel)]
        found |= set().union(*map(keys, tables)) if tables else {name}
    return found


def test_every_key_of_a_training_is_named() -> None:
    guide = (ROOT / "docs" / "guides" / "language-models.md").read_text()
    named = set(re.findall(r"`(\w+)`", guide))
    assert keys(InContextFile) | keys(LMFile) <= named
