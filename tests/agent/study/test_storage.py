"""Databases by URL, what is no store, and readers without rights."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from postgres import Postgres
from stores import EXPECTED, files_of, fill, open_store, timeless

from lm_searcher.agent.results.run_list import list_runs
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.sqlite_files import sqlite_path
from lm_searcher.agent.study.storage import MEMORY, open_engine, shown
from lm_searcher.agent.study.stored_run import has_run, stored_run, studies
from lm_searcher.spaces.errors import StoreError


def refused(url: str, *, create: bool) -> str:
    with pytest.raises(StoreError) as refusal, open_engine(url, create):
        pass
    assert "\n" not in str(refusal.value) and str(refusal.value).startswith(f"store '{url}'")
    return str(refusal.value)


@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_is_no_database(tmp_path: Path, create: bool) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, and they are long enough for a header\n" * 20)
    before = path.read_bytes()
    assert "is no SQLite database" in refused(f"sqlite:///{path}", create=create)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_reader_leaves_a_foreign_database_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    assert "holds no runs" in refused(f"sqlite:///{path}", create=False)
    assert path.read_bytes() == before
    (tmp_path / "empty.db").touch()
    assert "holds no runs" in refused(f"sqlite:///{tmp_path / 'empty.db'}", create=False)
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_a_run_beside_foreign_tables(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    with open_store(f"sqlite:///{path}") as store:
        fill(store)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM mine").fetchall() == []


def test_an_emptied_store_holds_no_run(sqlite: str) -> None:
    with open_store(sqlite) as store:
        fill(store)
    path = sqlite_path(sqlite)
    assert path is not None
    path.write_bytes(b"")
    assert not has_run(sqlite, "run") and "holds no runs" in refused(sqlite, create=False)
    with open_store(sqlite) as store:
        assert not len(store), "it begins anew"


def test_a_reader_makes_no_file(tmp_path: Path) -> None:
    assert "no such file" in refused(f"sqlite:///{tmp_path / 'x' / 'none.db'}", create=False)
    assert not has_run(f"sqlite:///{tmp_path / 'none.db'}", "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "Could not parse"),
        ("nodialect://host/db", "nodialect"),
        ("postgresql+psycopg2://localhost/db", "driver"),
        ("mysql://localhost/db", "accepted: memory, sqlite:///PATH, postgresql://"),
        ("sqlite://", "accepted: memory, sqlite:///PATH, postgresql://"),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_a_url_that_leads_nowhere(url: str, message: str, create: bool) -> None:
    assert message in refused(url, create=create)


def test_runs_of_one_store_do_not_mix(kept_url: str) -> None:
    with open_store(kept_url, "one") as one, open_store(kept_url, "two") as two:
        fill(one)
        assert not len(two) and one.id != two.id
        fill(two)
        two.set_attribute("x", 1)
        assert "x" not in one.attributes
    assert studies(kept_url) == ["one", "two"]
    assert has_run(kept_url, "one") and has_run(kept_url, "two")
    assert not has_run(kept_url, "three")
    with pytest.raises(StoreError, match=r"unknown run 'tow'; did you mean 'two'\?"):
        stored_run(files_of(kept_url, "tow"))
    assert timeless(stored_run(files_of(kept_url, "one")).trials) == EXPECTED


def test_a_run_in_memory_is_not_found_again() -> None:
    with open_store(MEMORY) as store:
        fill(store)
        with pytest.raises(StoreError, match="unknown run 'run': there is none"):
            stored_run(files_of(MEMORY))


def test_a_place_with_a_name_that_means_something_in_a_url(tmp_path: Path) -> None:
    folder = tmp_path / "a b#c%41?d"
    files = RunFiles.of("x", folder, None)
    with open_store(files.url) as store:
        fill(store)
    assert studies(files.url) == ["run"] and (folder / "x" / "trials.db").is_file()
    assert timeless(stored_run(files_of(files.url)).trials)[:3] == EXPECTED[:3]


def test_sqlite_paths() -> None:
    assert sqlite_path("sqlite:///a/b.db") == Path("a/b.db")
    assert sqlite_path("sqlite:////a/b.db") == Path("/a/b.db")
    assert sqlite_path("sqlite:///a%20b.db") == Path("a b.db")
    assert sqlite_path("postgresql://host/db") is None and sqlite_path(MEMORY) is None


def test_a_password_in_a_url_is_never_shown() -> None:
    assert shown("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert "secret" not in shown("postgresql://me@/db?host=/tmp&password=secret")
    for url in ("sqlite:///runs/a%20b.db", "memory", "no url at all"):
        assert shown(url) == url
    for url in ("postgresql+nodriver://me:secret@host/db", "mysql://me:secret@host/db"):
        with pytest.raises(StoreError) as caught:
            studies(url)
        assert "secret" not in str(caught.value)


def test_a_url_without_a_driver_means_psycopg_3(postgres: Postgres) -> None:
    url = postgres.url()
    assert url.startswith("postgresql://")
    with open_store(url) as store:
        fill(store)
    full = url.replace("postgresql://", "postgresql+psycopg://")
    assert timeless(stored_run(files_of(full)).trials)[:3] == EXPECTED[:3]


def test_a_reader_sees_one_state(kept_url: str) -> None:
    """What is written while a reader reads is not in what it has read before, nor after."""
    with (
        open_store(kept_url) as store,
        open_engine(kept_url, create=False) as engine,
        engine.begin() as connection,
    ):
        count = "SELECT count(*) FROM lm_searcher_trial"
        assert connection.exec_driver_sql(count).scalar() == 0
        fill(store)
        assert connection.exec_driver_sql(count).scalar() == 0
        assert len(stored_run(files_of(kept_url)).trials) == 4


# -- readers without the right to write ------------------------------------------------------------

READER = """
import os, sys
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
from stores import files_of
from lm_searcher.agent.study.stored_run import stored_run, has_run
print(len(stored_run(files_of(sys.argv[1])).trials), has_run(sys.argv[1], "run"))
"""


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder where the reader may not write."""
    folder = Path(tempfile.mkdtemp(prefix="read-only-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("driven", [True, False])
def test_a_reader_needs_no_right_to_write(
    read_only: Path, warm_python: Callable[..., Any], driven: bool
) -> None:
    url = f"sqlite:///{read_only / 'trials.db'}"

    def read() -> str:
        if os.getuid() != 0:
            read_only.chmod(0o555)
        process = warm_python("-c", READER, url, imports=["stores"])
        said, errors = process.communicate()
        read_only.chmod(0o755)
        assert process.returncode == 0, errors
        return str(said)

    before: set[Path] = set()
    with open_store(url) as store:
        fill(store)
        if driven:
            assert read() == "4 True\n"
    if not driven:
        before = set(read_only.iterdir())
        assert read() == "4 True\n"
        assert set(read_only.iterdir()) == before


def test_a_listing_names_what_cannot_be_read(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    (tmp_path / "bad" / "trials.db").write_text("no database, and long enough for a header\n" * 9)
    good = RunFiles.of("good", tmp_path, None)
    with open_store(good.url, "good") as store:
        fill(store)
    bad, row = list_runs(tmp_path, None)
    assert bad["run"] == "bad" and bad["state"].startswith("unreadable: store 'sqlite:///")
    assert (row["run"], row["state"], row["trials"]) == ("good", "interrupted", 4)
