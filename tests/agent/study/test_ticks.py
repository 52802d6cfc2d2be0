"""A tick is written whole or not at all: crashes, locks, and a server that comes and goes."""

from __future__ import annotations

import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import sqlalchemy.event
from postgres import Postgres
from sqlalchemy import Connection, Engine
from stores import files_of, log_of, open_store, start

from lm_searcher.agent.study import run_writer, sqlite_files
from lm_searcher.agent.study.events import Ask, End
from lm_searcher.agent.study.sqlite_files import sqlite_path
from lm_searcher.agent.study.stored_run import stored_run
from lm_searcher.agent.study.trial_store import TrialStore
from lm_searcher.spaces.errors import StoreError
from lm_searcher.spaces.history import TrialState
from lm_searcher.tools.protocols import Outcome

GOOD = Outcome({"value": 1.0}, 1.0)
ENDED = End(trial=0, state=TrialState.COMPLETE)

# -- kill -9 at any statement --------------------------------------------------------------------

CHILD = """
import os, signal, sys
import sqlalchemy.event
from sqlalchemy import Engine
from stores import open_store
from lm_searcher.agent.study.events import Ask
from lm_searcher.tools.protocols import Outcome

url, last = sys.argv[1], int(sys.argv[2])
left = iter(range(last, -1, -1))

def count(*arguments):
    if next(left) == 0:
        os.kill(os.getpid(), signal.SIGKILL)

with open_store(url) as store:
    while store.pending:
        store.finish(store.pending[0], Outcome({"value": 1.0}, 1.0))
    sqlalchemy.event.listen(Engine, "before_cursor_execute", count)
    sqlalchemy.event.listen(Engine, "commit", count)
    while True:
        with store.tick():
            store.log(Ask(first=len(store), n=3, ncodes=("000", "100", "200")))
            for ncode in ("000", "100", "200"):
                store.begin(store.add(ncode, 0, "random").number)
        with store.tick():
            for number in store.pending:
                store.finish(number, Outcome({"value": 1.0}, 1.0))
"""


@pytest.mark.slow
def test_kill_at_any_statement_leaves_whole_ticks(
    kept_url: str, warm_python: Callable[..., Any]
) -> None:
    """Twelve statements are two ticks and more; each run goes on from where the last was killed."""
    for last in range(12):
        process = warm_python("-c", CHILD, kept_url, str(last))
        assert process.wait() == -signal.SIGKILL, process.stderr.read()
        trials = stored_run(files_of(kept_url)).trials
        assert len(trials) % 3 == 0 and len({t.state for t in trials[-3:]}) <= 1
    with open_store(kept_url) as store:
        asked = [event for event in log_of(store) if isinstance(event, Ask)]
        ends = [event.trial for event in log_of(store) if isinstance(event, End)]
        assert [event.first for event in asked] == list(range(0, len(store), 3))
        finished = [t.number for t in store.trials if t.state.finished]
        assert sorted(ends) == finished and len(set(ends)) == len(ends)
        assert len(store) > 12


# -- SQLite that is locked ------------------------------------------------------------------------


def test_a_locked_database_is_one_line(sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_files, "BUSY_SECONDS", 0.05)
    with open_store(sqlite) as store:
        start(store, "000")
        with closing(sqlite3.connect(str(sqlite_path(sqlite)), isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            attempts: list[Callable[[], Any]] = [
                lambda: store.add("100", 0, "random"),
                lambda: store.finish(0, GOOD),
                lambda: store.report(0, 1, 0.5),
                lambda: store.set_attribute("x", 1),
            ]
            for attempt in attempts:
                with pytest.raises(StoreError) as refusal:
                    attempt()
                assert "locked by another process; end it, or wait" in str(refusal.value)
                assert "\n" not in str(refusal.value)
            other.execute("ROLLBACK")
        assert [t.number for t in store.trials] == [0] and store[0].state is TrialState.RUNNING
        assert "x" not in store.attributes and store[0].curve == ()
        start(store, "100")
        store.finish(0, GOOD)
    with open_store(sqlite) as store:
        assert [(t.number, t.value) for t in store.trials] == [(0, 1.0), (1, None)]
        assert log_of(store) == [ENDED]


# -- PostgreSQL that comes and goes ---------------------------------------------------------------


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.url()


@contextmanager
def at_the_next_commit(do: Callable[[Connection], None]) -> Iterator[list[int]]:
    """Calls `do` once, before the commit of a transaction; counts the commits."""
    commits: list[int] = []

    def on_commit(connection: Connection) -> None:
        commits.append(len(commits))
        if len(commits) == 1:
            do(connection)

    sqlalchemy.event.listen(Engine, "commit", on_commit)
    try:
        yield commits
    finally:
        sqlalchemy.event.remove(Engine, "commit", on_commit)


def check_written_once(store: TrialStore, url: str) -> None:
    assert store[0].value == 1.0
    assert log_of(store) == [ENDED]
    assert [t.value for t in stored_run(files_of(url)).trials] == [1.0]


def test_connections_that_were_lost_between_ticks_are_made_again(
    url: str, postgres: Postgres
) -> None:
    with open_store(url) as store:
        start(store, "000")
        postgres.kill_clients()
        store.finish(0, GOOD)
        check_written_once(store, url)
        postgres.kill_clients()
    assert not stored_run(files_of(url)).driven, "the lease was given back all the same"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
def test_a_server_that_is_restarted_within_a_tick(
    url: str, postgres: Postgres, number: signal.Signals
) -> None:
    def restart(connection: Connection) -> None:
        postgres.stop(number)
        thread.start()

    thread = threading.Thread(target=postgres.start)
    with open_store(url) as store:
        start(store, "000")
        with at_the_next_commit(restart) as commits:
            store.finish(0, GOOD)
        thread.join()
        assert len(commits) > 1
        check_written_once(store, url)


def test_a_commit_whose_answer_was_lost_is_not_doubled(url: str, postgres: Postgres) -> None:
    def commit_and_lose(connection: Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        driver.commit()
        driver.execute("SELECT 1")  # so that the commit to come is sent, and fails
        postgres.kill_clients()

    with open_store(url) as store:
        start(store, "000")
        with at_the_next_commit(commit_and_lose) as commits:
            store.finish(0, GOOD)
        assert len(commits) == 2
        check_written_once(store, url)
        start(store, "100")
    with open_store(url) as store:
        assert len(store) == 2 and log_of(store) == [ENDED]


def test_a_server_that_does_not_come_back(
    url: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_writer, "RETRY_SECONDS", 0.0)
    with open_store(url) as store:
        start(store, "000")
        postgres.kill_clients()
        with pytest.raises(StoreError) as refusal:
            store.finish(0, GOOD)
        assert "\n" not in str(refusal.value) and str(refusal.value).startswith("store 'postgresql")
        assert store[0].state is TrialState.RUNNING and store.pending == [0]
        with pytest.raises(StoreError, match="is not known: open run 'run' again"):
            store.finish(0, GOOD)
    with open_store(url) as store:
        assert store.finish(0, GOOD).value == 1.0


# -- rights ---------------------------------------------------------------------------------------


def test_a_role_without_rights_is_one_line(url: str, postgres: Postgres) -> None:
    schema = url.rpartition("%3D")[2]
    postgres.execute(
        "DROP ROLE IF EXISTS guest",
        "CREATE ROLE guest LOGIN",
        f"GRANT USAGE ON SCHEMA {schema} TO guest",
    )
    guest = postgres.url(schema, "guest")

    def refused(url: str) -> str:
        with pytest.raises(StoreError) as refusal, open_store(url):
            pass
        assert "\n" not in str(refusal.value)
        return str(refusal.value)

    try:
        assert "permission denied for schema" in refused(guest)
        with open_store(url) as store:
            start(store, "000")
        assert "permission denied for table" in refused(guest)
        with pytest.raises(StoreError, match="permission denied for table"):
            stored_run(files_of(guest))
        postgres.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO guest")
        assert len(stored_run(files_of(guest)).trials) == 1, "who may read may look on"
        assert "permission denied for table" in refused(guest)
        postgres.execute(f"GRANT INSERT, UPDATE ON ALL TABLES IN SCHEMA {schema} TO guest")
        with open_store(guest) as store:
            assert len(store) == 1, "it need not make tables"
        assert "role" in refused(postgres.url(schema, "nobody_there"))
    finally:
        postgres.execute("DROP OWNED BY guest", "DROP ROLE guest")


def test_a_server_that_is_not_there_is_one_line(tmp_path: Any) -> None:
    pytest.importorskip("psycopg")
    with (
        pytest.raises(StoreError) as refusal,
        open_store(f"postgresql://me:secret@/x?host={tmp_path}"),
    ):
        pass
    assert "\n" not in str(refusal.value) and "secret" not in str(refusal.value)
