"""One process at a time drives a run, on whichever host it is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update
from stores import files_of, open_store, start

from lm_searcher.agent.study import lease as module
from lm_searcher.agent.study.lease import EXPIRY_SECONDS, is_driven
from lm_searcher.agent.study.owner import Owner
from lm_searcher.agent.study.run_rows import run_row
from lm_searcher.agent.study.storage import MEMORY, open_engine
from lm_searcher.agent.study.stored_run import stored_run
from lm_searcher.agent.study.tables import RUN
from lm_searcher.spaces.errors import StoreError
from lm_searcher.tools.protocols import Outcome

GOOD = Outcome({"value": 1.0}, 1.0)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def left_by(url: str, owner: Owner, age: float) -> None:
    """Leave a run as if `owner` had been heard of so many seconds ago."""
    with open_store(url):
        pass
    with open_engine(url) as engine, engine.begin() as connection:
        values = {"owner": owner.text, "beat": module.now(connection, None) - age}
        connection.execute(update(RUN).values(values))


def row_of(url: str) -> Any:
    with open_engine(url, create=False) as engine, engine.connect() as connection:
        return run_row(connection, "run")


def refused(url: str, **options: Any) -> str:
    with pytest.raises(StoreError) as refusal, open_store(url, **options):
        pass
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_a_second_controller_is_refused_and_told_of_the_first(kept_url: str) -> None:
    with open_store(kept_url) as store:
        start(store, "000")
        message = refused(kept_url)
        assert message.startswith("run 'run' is locked: another process drives it")
        assert f"process {os.getpid()}" in message
        assert is_driven(files_of(kept_url)) and stored_run(files_of(kept_url)).driven
        with open_store(kept_url, "another"):
            pass
        store.finish(0, GOOD)
    assert not is_driven(files_of(kept_url)) and not stored_run(files_of(kept_url)).driven
    with open_store(kept_url) as store:
        assert len(store) == 1
    assert row_of(kept_url).epoch == 2 and row_of(kept_url).owner == ""


def test_a_run_in_memory_is_nobody_elses() -> None:
    with open_store(MEMORY), open_store(MEMORY):
        assert not is_driven(files_of(MEMORY))


def test_the_lease_is_given_back_whatever_happens(kept_url: str) -> None:
    with pytest.raises(ZeroDivisionError), open_store(kept_url):
        raise ZeroDivisionError
    assert not is_driven(files_of(kept_url))


def test_a_controller_that_has_lost_its_lease_writes_no_more(kept_url: str) -> None:
    clock = Clock()
    other = replace(Owner.of_this_process(), host="node-7", pid=77)
    with open_store(kept_url, clock=clock) as first:
        start(first, "000")
        clock.seconds += EXPIRY_SECONDS - 1
        assert "heard of 29 s ago" in refused(kept_url, clock=clock)
        clock.seconds += 2  # the first sleeps on
        with open_store(kept_url, clock=clock, owner=other) as second:
            second.begin(0)
            second.finish(0, GOOD)
            before = first[0]
            for late in (
                lambda: first.finish(0, Outcome({}, 1.0, "late")),
                lambda: first.add("100", 0, "random"),
                lambda: first.set_attribute("x", 1),
            ):
                with pytest.raises(StoreError, match="node-7, process 77 has taken it over"):
                    late()
            assert first[0] == before and len(first) == 1 and "x" not in first.attributes
            second.set_attribute("y", 2)
        assert row_of(kept_url).owner == ""
    trials = stored_run(files_of(kept_url)).trials
    assert [(t.value, t.reason) for t in trials] == [(1.0, None)]


def test_the_beat_of_a_process_that_ended_counts_no_more(kept_url: str) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    dead = replace(Owner.of_this_process(), pid=done.pid)
    left_by(kept_url, dead, age=0.0)
    assert dead.known_dead and not is_driven(files_of(kept_url))
    with open_store(kept_url):
        pass


def test_a_later_process_of_the_same_number_is_another(kept_url: str) -> None:
    me = Owner.of_this_process()
    assert not me.known_dead and replace(me, started=me.started - 1).known_dead
    left_by(kept_url, replace(me, started=me.started - 1), age=0.0)
    with open_store(kept_url):
        pass


@pytest.mark.parametrize("elsewhere", [{"host": "node-7"}, {"boot": "another"}])
def test_of_another_host_only_the_beat_is_known(kept_url: str, elsewhere: dict[str, str]) -> None:
    other = replace(Owner.of_this_process(), pid=2**22 + 1, **elsewhere)
    left_by(kept_url, other, age=EXPIRY_SECONDS - 10)
    assert is_driven(files_of(kept_url))
    assert str(other) in refused(kept_url)
    left_by_again = replace(other, token="later")
    with open_engine(kept_url) as engine, engine.begin() as connection:
        beat = module.now(connection, None) - EXPIRY_SECONDS - 1
        connection.execute(update(RUN).values(owner=left_by_again.text, beat=beat))
    assert not is_driven(files_of(kept_url))
    with open_store(kept_url):
        pass


@pytest.mark.parametrize("text", ["", "{}", "[]", "nobody", '{"pid": "x", "more": 1}'])
def test_an_owner_that_cannot_be_read_is_unknown(text: str) -> None:
    assert str(Owner.parse(text)) == "an unknown host, process 0"
    assert not Owner.parse(text).known_dead
    me = Owner.of_this_process()
    assert Owner.parse(me.text) == me != Owner.of_this_process()


def test_the_lease_beats_by_itself(kept_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)
    clock = Clock()
    with open_store(kept_url, clock=clock):
        clock.seconds += 500
        end = time.monotonic() + 60
        while age_of_beat(kept_url, clock) > 0:
            assert time.monotonic() < end
            time.sleep(0.01)
        names = {thread.name for thread in threading.enumerate()}
        assert "lease of run" in names
    assert "lease of run" not in {thread.name for thread in threading.enumerate()}


def age_of_beat(url: str, clock: Clock) -> float:
    with open_engine(url, create=False) as engine, engine.connect() as connection:
        row = run_row(connection, "run", clock)
    assert row is not None
    return float(row.age)


@pytest.mark.slow
def test_of_many_at_once_one_drives(kept_url: str) -> None:
    """Threads with stores of their own, on a store that does not exist yet."""
    results: list[str] = []
    barrier, done = threading.Barrier(6), threading.Event()

    def drive() -> None:
        barrier.wait()
        try:
            with open_store(kept_url) as store:
                start(store, "000")
                results.append("drives")
                done.wait(60)
        except StoreError as error:
            results.append(str(error))
        if len(results) == 6:
            done.set()

    threads = [threading.Thread(target=drive) for _ in range(6)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 60
    while len(results) < 6 and time.monotonic() < end:
        time.sleep(0.01)
    done.set()
    for thread in threads:
        thread.join()
    assert results.count("drives") == 1
    assert sum("is locked: another process drives it" in r for r in results) == 5
    assert len(stored_run(files_of(kept_url)).trials) == 1


CHILD = """
import sys
from stores import open_store, start
from lm_searcher.spaces.errors import StoreError
try:
    with open_store(sys.argv[1]) as store:
        start(store, "000")
        print("drives", flush=True)
        sys.stdin.readline()
except StoreError as error:
    print(error, flush=True)
"""


@pytest.mark.slow
def test_takeover_from_a_process_that_was_killed(
    kept_url: str, warm_python: Callable[..., Any]
) -> None:
    first = warm_python("-c", CHILD, kept_url)
    assert first.stdout.readline() == "drives\n"
    second = warm_python("-c", CHILD, kept_url)
    said, _ = second.communicate()
    assert "another process drives it" in said and f"process {first.pid}" in said
    first.kill()
    first.wait()
    with ExitStack() as stack:
        store = stack.enter_context(open_store(kept_url))  # at once
        assert store.waiting == [0]
        store.begin(0)
        assert store.finish(0, GOOD).value == 1.0
