"""Two processes and one run: the second is refused, or has taken the run over for good."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_search import check_log
from warm import WarmProcess

from lm_searcher.agent.loop.replay import replay
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.stored_run import stored_log, stored_run

pytestmark = pytest.mark.slow

RUN_FILE = """
[space]
path = "space.toml"
[evaluator]
kind = "python"
function = "gated:measure"
[executor]
kind = "inline"
workers = 3
[ranker]
name = "evolution"
[budget]
trials = 12
"""
SPACE_FILE = """
[[positions]]
name = "width"
choices = [1, 2, 3, 4, 5, 6, 7, 8]
[[positions]]
name = "depth"
choices = [1, 2, 3, 4]
"""
GATED = """
import os, time
done = 0
def measure(config):
    global done
    while not os.path.exists("gate") and done >= 4:
        open("waiting", "w").close()
        time.sleep(0.005)
    done += 1
    return config["width"] * config["depth"]
"""


class Controllers:
    """`lm-searcher run` in a folder, of a search that waits in its fifth trial for a file."""

    def __init__(self, python: Callable[..., WarmProcess], folder: Path) -> None:
        self.python, self.folder = python, folder
        self.files = RunFiles.of("run", folder / "runs", None)
        (folder / "run.toml").write_text(RUN_FILE)
        (folder / "space.toml").write_text(SPACE_FILE)
        (folder / "gated.py").write_text(GATED)

    def start(self, *arguments: str) -> WarmProcess:
        return self.python(
            "-m", "lm_searcher.agent", "run", "run.toml", *arguments, cwd=self.folder
        )

    def start_and_wait(self) -> WarmProcess:
        """A controller that is in its fifth trial."""
        process, mark = self.start(), self.folder / "waiting"
        while not mark.exists():
            assert process.poll() is None
            time.sleep(0.005)
        mark.unlink()
        return process

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

    def rows(self) -> list[Any]:
        """All that is stored."""
        with contextlib.closing(sqlite3.connect(self.files.folder / "trials.db")) as store:
            tables = ("run", "trial", "event")
            return [store.execute(f"SELECT * FROM lm_searcher_{t}").fetchall() for t in tables]

    def let_lease_expire(self) -> None:
        with contextlib.closing(sqlite3.connect(self.files.folder / "trials.db")) as store, store:
            store.execute("UPDATE lm_searcher_run SET beat = beat - 60")

    def check(self) -> None:
        """The run has ended, and its log holds together."""
        run, log = stored_run(self.files), stored_log(self.files)
        check_log(run, log)
        assert [trial.value is not None for trial in run.trials] == [True] * 12
        assert replay(self.files, run, log).difference is None and not run.driven


@pytest.fixture
def controllers(
    warm_python: Callable[..., WarmProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Controllers:
    monkeypatch.chdir(tmp_path)
    return Controllers(warm_python, tmp_path)


def check_refused(process: WarmProcess, by: WarmProcess) -> None:
    _, errors = process.communicate()
    assert process.returncode == 2 and len(errors.splitlines()) == 1, errors
    assert "another process drives it" in errors and f"process {by.pid};" in errors


def test_the_second_is_refused_under_whichever_name(controllers: Controllers) -> None:
    first, folder = controllers.start_and_wait(), controllers.folder
    check_refused(controllers.start(), first)
    (folder / "other").symlink_to("runs")
    check_refused(controllers.start("--folder", "other"), first)
    (folder / "link.db").symlink_to(controllers.files.folder / "trials.db")
    check_refused(controllers.start("--store", f"sqlite:///{folder / 'link.db'}"), first)
    controllers.open_gate()
    first.communicate()
    assert first.returncode == 0
    controllers.check()


def test_of_two_that_begin_a_run_at_once_one_does(controllers: Controllers) -> None:
    controllers.open_gate()
    both = [controllers.start(), controllers.start()]
    errors = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    said = [error for code, error in zip(codes, errors, strict=True) if code]
    assert 0 in codes and all("locked" in error for error in said), "or the other had ended"
    controllers.check()


def test_after_kill_9_the_next_starts_at_once(controllers: Controllers) -> None:
    first = controllers.start_and_wait()
    first.kill()
    first.wait()
    controllers.open_gate()
    began = time.monotonic()
    second = controllers.start()
    _, errors = second.communicate()
    assert second.returncode == 0, errors
    assert time.monotonic() - began < 25, "the lease would expire after 30 s"
    controllers.check()


@pytest.mark.parametrize("while_it_runs", [True, False])
def test_a_stopped_controller_that_wakes_up_writes_nothing(
    controllers: Controllers, while_it_runs: bool
) -> None:
    """Another has taken the run over meanwhile, and still drives it, or has ended it."""
    first = controllers.start_and_wait()
    os.kill(first.pid, signal.SIGSTOP)
    check_refused(controllers.start(), first)
    controllers.let_lease_expire()
    if while_it_runs:
        second = controllers.start_and_wait()
        os.kill(second.pid, signal.SIGSTOP)  # so that all that changes now is by the first
        before = controllers.rows()
        controllers.open_gate()
    else:
        controllers.open_gate()
        second = controllers.start()
        second.communicate()
        before = controllers.rows()
    os.kill(first.pid, signal.SIGCONT)
    _, errors = first.communicate()
    assert first.returncode == 2, errors
    said = [line for line in errors.splitlines() if line]
    assert len(said) == 1 and "drives the run no more" in said[0]
    assert (f"process {second.pid} has taken it over" in said[0]) == while_it_runs
    assert controllers.rows() == before
    if while_it_runs:
        os.kill(second.pid, signal.SIGCONT)
        second.communicate()
    assert second.returncode == 0
    controllers.check()
