"""kill -9 at any moment, and Ctrl-C: what was finished stays, and the run goes on as it would."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_search import check_log
from warm import WarmProcess

from lm_searcher.agent.loop.replay import replay
from lm_searcher.agent.loop.request_files import Request, submit
from lm_searcher.agent.results.result import read_run
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.agent.study.stored_run import stored_log, stored_run

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


Python = Callable[..., WarmProcess]


class Searches:
    """Runs tests/agent/searching.py."""

    def __init__(self, python: Python) -> None:
        self.python = python

    def begin(self, folder: Path, **keywords: Any) -> WarmProcess:
        """A search that has been started."""
        folder.mkdir(exist_ok=True)
        return self.python(HERE / "searching.py", folder, json.dumps(keywords))

    def complete(self, folder: Path, **keywords: Any) -> float:
        """Run to the end; the seconds that it took."""
        began = time.monotonic()
        process = self.begin(folder, **keywords)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        return time.monotonic() - began

    def kill(self, folder: Path, after: float, **keywords: Any) -> None:
        """kill -9 some seconds into a search, unless it has ended by then."""
        process = self.begin(folder, **keywords)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after)
        process.kill()
        assert process.wait() in (0, -signal.SIGKILL)
        await_no_processes(folder)


@pytest.fixture
def searches(warm_python: Python) -> Searches:
    return Searches(warm_python)


def outcome(folder: Path) -> dict[str, Any]:
    """All that must be the same: numbers, codes, values, seeds, decisions, confirmations."""
    result = read_run(RunFiles.of("run", folder, None))
    shown = result.to_json()
    assert result.state == "finished"
    return {
        "trials": [(t.number, t.ncode, str(t.state), t.value, t.seed) for t in result.trials],
        "subspace": shown["subspace"],
        "incumbent": shown["incumbent"],
        "confirmed": {
            number: [(e["seed"], e["value"]) for e in entries]
            for number, entries in shown["confirmations"].items()
        },
    }


def worker_processes(folder: Path) -> list[str]:
    """Command lines of the processes that still have the run's log open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            files = [os.readlink(fd) for fd in (process / "fd").iterdir()]
        except OSError:  # it has ended meanwhile
            continue
        if any(file.startswith(str(folder)) for file in files):
            found.append((process / "cmdline").read_text())
    return found


def await_no_processes(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while left := worker_processes(folder):
        assert time.monotonic() < deadline, f"orphans: {left}"
        time.sleep(0.02)


@pytest.mark.parametrize("workers", [1, 2])
def test_kill_at_any_moment_changes_nothing(
    tmp_path: Path, searches: Searches, workers: int
) -> None:
    executor = {"workers": workers, "mode": "batch"}
    seconds = searches.complete(tmp_path / "whole", executor=executor)
    whole = outcome(tmp_path / "whole")
    assert len(whole["trials"]) == 28
    assert len({trial[1] for trial in whole["trials"]}) == 28
    assert whole["subspace"]["decisions"], "the run is to exercise memory too"
    once = Counter((tmp_path / "whole" / "calls").read_text().split())
    draw = random.Random(workers)
    for kill in range(5):
        folder = tmp_path / f"killed-{kill}"
        searches.kill(folder, draw.uniform(0, 0.9 * seconds), executor=executor)
        searches.complete(folder, executor=executor)
        assert outcome(folder) == whole
        calls = Counter((folder / "calls").read_text().split())
        assert (calls - once).total() <= workers  # no more than what was under way


def test_kill_at_any_moment_of_an_asynchronous_run(tmp_path: Path, searches: Searches) -> None:
    """The order in which trials end is another; nothing is lost or doubled, and each decision
    follows from that order."""
    seconds, draw = searches.complete(tmp_path / "whole", workers=3), random.Random(3)
    for kill in range(3):
        folder = tmp_path / f"killed-{kill}"
        for _ in range(2):
            searches.kill(folder, draw.uniform(0, 0.6 * seconds), workers=3)
        searches.complete(folder, workers=3)
        files = RunFiles.of("run", folder, None)
        run, log = stored_run(files), stored_log(files)
        check_log(run, log)
        assert len(run.trials) == 28 and all(trial.value is not None for trial in run.trials)
        assert replay(files, run, log).difference is None
        calls = Counter((folder / "calls").read_text().split())
        confirmed = 4
        assert calls.total() <= 28 + confirmed + 2 * 3  # no more than what was under way


def test_killed_again_and_again(tmp_path: Path, searches: Searches) -> None:
    seconds = searches.complete(tmp_path / "whole")
    draw = random.Random(0)
    for _ in range(4):
        searches.kill(tmp_path / "killed", draw.uniform(0, seconds / 2))
    searches.complete(tmp_path / "killed")
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


RUN_FILE = """
[space]
path = "space.toml"
[evaluator]
kind = "python"
function = "slow:measure"
[ranker]
name = "evolution"
[budget]
trials = 30
"""
SPACE_FILE = """
[[positions]]
name = "width"
choices = [1, 2, 3, 4, 5, 6, 7, 8]
[[positions]]
name = "depth"
choices = [1, 2, 3, 4]
"""
SLOW = """
import time
def measure(config):
    open("under-way", "w").close()
    time.sleep({seconds})
    return config["width"] * config["depth"]
"""


@pytest.fixture
def start_cli(warm_python: Python, tmp_path: Path) -> Callable[[float], WarmProcess]:
    """`lm-searcher run` of a function that sleeps for so many seconds."""

    def start(seconds: float) -> WarmProcess:
        (tmp_path / "run.toml").write_text(RUN_FILE)
        (tmp_path / "space.toml").write_text(SPACE_FILE)
        (tmp_path / "slow.py").write_text(SLOW.format(seconds=seconds))
        return warm_python("-m", "lm_searcher.agent", "run", "run.toml", cwd=tmp_path)

    return start


def await_trials(process: WarmProcess, n: int) -> None:
    assert process.stdout is not None
    for _ in range(n):
        assert process.stdout.readline().startswith("["), process.stderr
    # the next trial is under way


def shown(folder: Path) -> dict[str, Any]:
    """The run as `lm-searcher show --json` has it."""
    document: dict[str, Any] = read_run(RunFiles.of("run", folder / "runs", None)).to_json()
    return document


def test_a_run_leaves_its_store_and_its_log(tmp_path: Path, searches: Searches) -> None:
    """No lock file and no checkpoints: the store alone says where the run stands."""
    searches.complete(tmp_path / "whole", trials=5)
    searches.kill(tmp_path / "whole", 0.2)
    searches.complete(tmp_path / "whole")
    left = {path.name for path in (tmp_path / "whole" / "run").iterdir()}
    assert left == {"trials.db", "trials.db.run.log"}


def test_ctrl_c_lets_the_running_trial_finish(
    tmp_path: Path, start_cli: Callable[[float], WarmProcess]
) -> None:
    process = start_cli(0.3)
    await_trials(process, 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "lm-searcher run run.toml" in errors and "Traceback" not in errors
    await_no_processes(tmp_path)
    run = shown(tmp_path)
    assert run["state"] == "interrupted"
    assert {t["state"] for t in run["trials"]} == {"COMPLETE"}
    assert 2 <= len(run["trials"]) < 30


def test_second_ctrl_c_leaves_at_once(
    tmp_path: Path, start_cli: Callable[[float], WarmProcess]
) -> None:
    process = start_cli(600)
    assert process.stderr is not None
    while not (tmp_path / "under-way").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert "Ctrl-C again" in process.stderr.readline() + process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    process.communicate()
    await_no_processes(tmp_path)
    assert [t["state"] for t in shown(tmp_path)["trials"]] == ["WAITING"]
    again = start_cli(0.0)  # the same function, now quick: the trial is run again
    _, errors = again.communicate()
    assert again.returncode == 0, errors
    run = shown(tmp_path)
    assert [t["number"] for t in run["trials"]] == list(range(30))
    assert {t["state"] for t in run["trials"]} == {"COMPLETE"}
    assert len({t["ncode"] for t in run["trials"]}) == 30


def test_one_process_at_a_time_drives_a_run(start_cli: Callable[[float], WarmProcess]) -> None:
    first = start_cli(0.3)
    await_trials(first, 1)
    second = start_cli(0.3)
    _, errors = second.communicate()
    assert second.returncode == 2
    assert "another process drives it" in errors and len(errors.splitlines()) == 1
    first.send_signal(signal.SIGINT)
    first.communicate()


def test_kill_changes_nothing_about_requests_by_hand(tmp_path: Path, searches: Searches) -> None:
    def ask(folder: Path) -> None:
        for request in (
            Request(action="prune", position=1, option=3),
            *(Request(action="pick", ncode=ncode) for ncode in ("00000", "33333", "44444")),
            Request(action="prune", position=0, option=0),
        ):
            submit(RunFiles.of("run", folder, None), request)

    ask(tmp_path / "whole")
    seconds = searches.complete(tmp_path / "whole")
    whole = outcome(tmp_path / "whole")
    assert [trial[1] for trial in whole["trials"][:3]] == ["00000", "33333", "44444"]
    assert all(trial[1][1] != "3" for trial in whole["trials"][3:])
    draw = random.Random(3)
    for kill in range(3):
        folder = tmp_path / f"killed-{kill}"
        ask(folder)
        searches.kill(folder, draw.uniform(0, 0.6 * seconds))
        searches.complete(folder)
        assert outcome(folder) == whole
