"""Searches in processes of their own: started, followed, paused, killed, gone on with."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from stores import driving

from lm_searcher.agent.results.result import read_run
from lm_searcher.agent.study.lease import is_driven
from lm_searcher.agent.toolbox import processes
from lm_searcher.agent.toolbox.registry import call, question
from lm_searcher.agent.toolbox.run_status import collect_ended
from lm_searcher.agent.toolbox.workspace import Workspace

TABLE: dict[str, Any] = {"evaluator": "table", "table": "grid.csv", "metric": "acc"}
SLOW = TABLE | {"ranker": "evolution", "trials": 120, "name": "long"}
"""Long enough to be met at work: some seconds."""


@pytest.fixture(autouse=True)
def leave_nothing(workspace: Workspace) -> Iterator[None]:
    yield
    for name in processes.running(workspace):
        living = processes.process(workspace.files_of(name))
        if living is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                living.kill()
                living.wait(10)


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def done(workspace: Workspace) -> int:
    return int(call(workspace, "status", {"run": "long"}).data["trials"])


@pytest.mark.slow
def test_from_start_to_announcement(workspace: Workspace) -> None:
    given = TABLE | {"ranker": "evolution", "trials": 8}
    assert call(workspace, "start_search", given).data["run"] == "grid-1"
    assert workspace.committed == 8
    assert call(workspace, "status", {}).data["state"] in ("starting", "running")
    assert collect_ended(workspace) == []
    ended = call(workspace, "wait", {"seconds": 120})
    assert ended.data["state"] == "finished"
    assert ended.data["trials"] == ended.data["budget"] == 8
    (ended,) = collect_ended(workspace)
    assert ended.summary == ended.summary
    assert collect_ended(Workspace(workspace.folder)) == []  # ended once, whoever asks
    log = (workspace.folder / "grid-1" / "process.log").read_text()
    assert "[8/8] trial 7" in log

    # An architecture measured by hand, beyond the budget, and nothing but that one.
    tried = {t["ncode"] for t in call(workspace, "best", {"top": 8}).data["trials"]}
    ncode = next(c for c in ("505", "550") if c not in tried)
    call(workspace, "evaluate_ncode", {"ncode": ncode})
    assert call(workspace, "wait", {"seconds": 120}).data["trials"] == 9
    found = call(workspace, "evaluate_ncode", {"ncode": ncode}).data
    a, b, c = map(int, ncode)
    assert found["value"] == -4 * (a - 2) ** 2 - (b - 3) ** 2 - (c - 1) ** 2
    assert found["trial"] == 8


@pytest.mark.slow
def test_paused_it_goes_on_as_if_nothing_had_been(workspace: Workspace, run: Any) -> None:
    run("whole", trials=120)
    whole = read_run(workspace.files("whole"))
    workspace.budget_trials = None
    call(workspace, "start_search", SLOW)
    until(lambda: done(workspace) > 3)
    again = call(workspace, "resume", {"run": "long"})
    assert again.error and "under way" in again.summary
    call(workspace, "pause", {"run": "long"})
    assert call(workspace, "wait", {"seconds": 60}).data["state"] == "paused"
    before = done(workspace)
    assert 3 < before < 120
    assert call(workspace, "override_next", {"ncode": "999"}).error
    call(workspace, "resume", {})
    until(lambda: done(workspace) > before)
    # Killed, together with its process record: another workspace finds it by its lock.
    files = workspace.files("long")
    processes.save_record(files, processes.ProcessRecord(pid=os.getpid()))
    living = processes.process(files)
    assert living is not None and living.pid != os.getpid()
    living.kill()
    until(lambda: not is_driven(files))
    status = call(workspace, "wait", {"run": "long", "seconds": 10}).data
    assert status["state"] == "interrupted"
    (ended,) = collect_ended(workspace)
    assert ended.data["state"] == "interrupted"
    call(workspace, "resume", {"run": "long"})
    assert call(workspace, "wait", {"seconds": 120}).data["state"] == "finished"
    result = read_run(files)
    assert [(t.number, t.ncode, t.value) for t in result.trials] == [
        (t.number, t.ncode, t.value) for t in whole.trials
    ]


@pytest.mark.slow
def test_stopped_by_a_person(workspace: Workspace) -> None:
    workspace.budget_trials = None
    call(workspace, "start_search", SLOW)
    until(lambda: done(workspace) > 1)
    asked = question(workspace, "stop", {})
    assert asked is not None and asked.startswith("Stop the search 'long'? long is running: ")
    call(workspace, "stop", {})
    status = call(workspace, "wait", {"seconds": 60}).data
    assert status["state"] == "stopped"
    assert status["trials"] < 120


@pytest.mark.slow
def test_paused_before_it_has_begun(workspace: Workspace) -> None:
    call(workspace, "start_search", TABLE | {"ranker": "evolution", "trials": 4, "name": "early"})
    call(workspace, "pause", {"run": "early"})
    status = call(workspace, "wait", {"run": "early", "seconds": 60}).data
    assert (status["state"], status["trials"]) == ("paused", 0)
    call(workspace, "resume", {"run": "early"})
    assert call(workspace, "wait", {"seconds": 120}).data["state"] == "finished"
    call(workspace, "stop", {"run": "early"})
    assert call(workspace, "status", {"run": "early"}).data["state"] == "finished"


@pytest.mark.slow
def test_a_search_that_cannot_begin(workspace: Workspace) -> None:
    call(workspace, "start_search", TABLE | {"trials": 3, "name": "broken"})
    living = processes.process(workspace.files("broken"))
    assert living is not None
    until(lambda: processes.process(workspace.files("broken")) is None, 120)
    (workspace.folder / "broken" / "trials.db").unlink()
    (workspace.folder / "tables" / "grid.csv").write_text("a,acc\n1,x\n")
    processes.start(workspace.files_of("broken"))
    status = call(workspace, "wait", {"run": "broken", "seconds": 60})
    assert status.data["state"] == "failed"
    assert "grid.csv" in status.data["why"]


@pytest.mark.slow
def test_a_process_id_that_is_anothers_now(workspace: Workspace, run: Any) -> None:
    run("grid", trials=3)
    files = workspace.files("grid")
    assert processes.process(files) is None
    words = [sys.executable, "-c", "import time; time.sleep(60)"]
    other = subprocess.Popen(words, start_new_session=True)
    try:
        processes.save_record(files, processes.ProcessRecord(pid=other.pid))
        assert processes.process(files) is None
        assert call(workspace, "status", {}).data["state"] == "finished"
        assert call(workspace, "pause", {}).error
        assert processes.request_exit(files, "pause")
        assert other.poll() is None  # nobody sent it a signal
    finally:
        other.kill()
        other.wait()
    processes.save_record(files, processes.ProcessRecord(pid=other.pid))  # stale
    assert processes.process(files) is None


def test_a_run_that_is_driven_elsewhere_is_left_alone(workspace: Workspace, run: Any) -> None:
    run("grid", trials=3)
    files = workspace.files("grid")
    with driving(files):
        assert call(workspace, "status", {}).summary.endswith("started elsewhere")
        result = call(workspace, "pause", {})
        assert result.error and "was started elsewhere" in result.summary
        assert call(workspace, "resume", {"trials": 9}).error


def test_a_damaged_record_is_none(workspace: Workspace, run: Any, tmp_path: Path) -> None:
    run("grid", trials=3)
    files = workspace.files("grid")
    processes.record_path(files).write_text("{")
    assert processes.load_record(files) is None
    assert collect_ended(workspace) == []
