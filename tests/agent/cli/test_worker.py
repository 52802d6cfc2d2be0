"""`lm-searcher worker` and runs with [executor] kind = "queue", in processes."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from postgres import Postgres
from warm import WarmProcess

from lm_searcher.agent.results.result import Result, read_run
from lm_searcher.agent.search import Search
from lm_searcher.agent.study.paths import RunFiles
from lm_searcher.spaces.errors import ConfigError
from lm_searcher.spaces.history import TrialState

pytestmark = pytest.mark.slow

SPACE = """\
name = "three"
[[positions]]
name = "a"
choices = [0, 1, 2, 3]
[[positions]]
name = "b"
choices = [0, 1, 2, 3]
"""

RUN = """\
space.path = "space.toml"
evaluator = { kind = "python", function = "measuring:measure" }
ranker.name = "random"
executor.kind = "queue"
"""

FUNCTION = """\
import os, time

def measure(config, ncode, report):
    with open(f"{ncode}.{os.getpid()}", "w") as file:
        file.write(str(os.getppid()))
    report(1, 0.5)
    while os.path.exists("hold"):
        time.sleep(0.01)
    return config["a"] + config["b"] / 4
"""


class Site:
    """A folder with a run file, a store, and processes that work there."""

    def __init__(self, folder: Path, url: str, python: Callable[..., WarmProcess]) -> None:
        self.folder, self.url, self._python = folder, url, python
        (folder / "space.toml").write_text(SPACE)
        (folder / "run.toml").write_text(RUN)
        (folder / "measuring.py").write_text(FUNCTION)

    def start(self, *arguments: str) -> WarmProcess:
        """`lm-searcher` with these arguments."""
        return self._python("-m", "lm_searcher.agent", *arguments, cwd=self.folder)

    def worker(self, *options: str) -> WarmProcess:
        return self.start("worker", self.url, *options)

    def search(self, trials: int) -> WarmProcess:
        return self.start("run", "run.toml", "--store", self.url, "--trials", str(trials))

    def hold(self) -> None:
        """Let no evaluation end."""
        (self.folder / "hold").touch()

    def release(self) -> None:
        (self.folder / "hold").unlink()

    def begun(self) -> list[str]:
        """The NCodes whose evaluation has begun, once for each time."""
        return sorted(path.name[:2] for path in self.folder.glob("[0-3][0-3].*"))

    def await_begun(self, number: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.begun()) < number:
            assert time.monotonic() < deadline, f"only {self.begun()} began"
            time.sleep(0.01)

    def result(self) -> Result:
        return read_run(RunFiles.of("run", self.folder, self.url))

    def each_once(self, trials: int) -> None:
        """The run has so many trials; all are complete, and each was evaluated once."""
        done = self.result().trials
        assert [trial.state for trial in done] == [TrialState.COMPLETE] * trials
        assert self.begun() == sorted(trial.ncode for trial in done)


@pytest.fixture
def site(
    tmp_path: Path, postgres: Postgres, warm_python: Callable[..., WarmProcess]
) -> Iterator[Site]:
    yield Site(tmp_path, postgres.url(), warm_python)
    with contextlib.suppress(FileNotFoundError):
        (tmp_path / "hold").unlink()


def end(worker: WarmProcess) -> str:
    """Have a worker end; what it printed."""
    worker.send_signal(signal.SIGTERM)
    return succeed(worker)


def succeed(process: WarmProcess) -> str:
    """What it printed."""
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return out


def test_two_workers_evaluate_a_run(site: Site) -> None:
    workers = [site.worker() for _ in range(2)]  # the store is empty yet
    succeed(site.search(12))
    site.each_once(12)
    lines = [line for worker in workers for line in end(worker).splitlines()]
    assert sorted(int(line.split()[1][:-1]) for line in lines if "value" in line) == [*range(12)]
    assert len({trial.place for trial in site.result().trials}) == 2


def test_a_worker_that_is_killed_loses_its_trial(site: Site, postgres: Postgres) -> None:
    site.hold()
    killed, search = site.worker(), site.search(1)
    site.await_begun(1)
    killed.kill()
    site.release()
    schema = site.url.rpartition("%3D")[2]
    postgres.execute(f"UPDATE {schema}.lm_searcher_worker SET beat = beat - 1000")  # an hour later
    worker = site.worker()
    succeed(search)
    (trial,) = site.result().trials
    assert (trial.state, trial.attempt) == (TrialState.COMPLETE, 2)
    assert site.begun() == [trial.ncode] * 2
    worker.send_signal(signal.SIGINT)
    succeed(worker)


def test_a_controller_that_is_killed_finds_its_trials_again(site: Site) -> None:
    site.hold()
    workers = [site.worker() for _ in range(2)]
    first = site.search(4)
    site.await_begun(2)
    first.kill()
    first.wait()
    second = site.search(4)  # the first is known to be dead
    site.release()
    succeed(second)
    site.each_once(4)
    assert {trial.attempt for trial in site.result().trials} == {1}
    for worker in workers:
        end(worker)


def test_a_scheduler_that_ends_a_job_lets_the_trial_finish(site: Site) -> None:
    site.hold()
    worker, search = site.worker("--grace", "3600"), site.search(1)
    site.await_begun(1)
    job = psutil.Process(worker.pid)
    for process in [job, *job.children(recursive=True)]:
        process.send_signal(signal.SIGTERM)
    assert worker.stdout is not None
    while "ending" not in worker.stdout.readline():
        pass
    site.release()
    succeed(search)
    site.each_once(1)
    succeed(worker)


def test_a_worker_that_is_ended_gives_its_trial_back(site: Site) -> None:
    site.hold()
    worker, search = site.worker("--grace", "0"), site.search(1)
    site.await_begun(1)
    worker.send_signal(signal.SIGTERM)
    succeed(worker)
    site.release()
    other = site.worker()
    succeed(search)
    (trial,) = site.result().trials
    assert (trial.state, trial.attempt) == (TrialState.COMPLETE, 2)
    end(other)


def test_a_worker_that_is_ended_while_it_loads_leaves_the_trial(site: Site) -> None:
    module = site.folder / "measuring.py"
    module.write_text("open('loading', 'w').close()\nimport time\ntime.sleep(3600)\n")
    worker, search = site.worker("--grace", "3600"), site.search(1)
    deadline = time.monotonic() + 60
    while not (site.folder / "loading").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    end(worker)
    module.write_text(FUNCTION)
    other = site.worker()
    succeed(search)
    site.each_once(1)
    assert site.result().trials[0].attempt == 1
    end(other)


def test_ctrl_c_takes_the_trials_back(site: Site) -> None:
    (site.folder / "run.toml").write_text(RUN + "executor.grace = 0\n")
    site.hold()
    worker, search = site.worker(), site.search(2)
    site.await_begun(1)
    search.send_signal(signal.SIGINT)
    search.communicate(timeout=60)
    assert search.returncode == 130
    assert site.result().trials[0].state is TrialState.WAITING
    site.release()
    succeed(site.search(2))
    assert [trial.state for trial in site.result().trials] == [TrialState.COMPLETE] * 2
    assert "not wanted" in end(worker)


# -- what is refused ------------------------------------------------------------------------------


def refused(process: WarmProcess) -> str:
    """The one line of the error."""
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    (line,) = errors.splitlines()
    assert "secret" not in line
    return line


def test_what_no_worker_can_serve_is_one_line(site: Site, postgres: Postgres) -> None:
    nowhere = f"postgresql://me:secret@/runs?host={site.folder}"
    assert "No such file" in refused(site.start("worker", nowhere))
    assert "postgresql://" in refused(site.start("worker", "sqlite:///runs.db"))
    assert "no runs yet" in refused(site.worker("--run", "mine"))
    worker = site.worker()
    succeed(site.search(1))
    end(worker)
    assert "did you mean 'run'" in refused(site.worker("--run", "rum"))
    schema = site.url.rpartition("%3D")[2]
    try:
        postgres.execute("CREATE ROLE stranger LOGIN")
        postgres.execute(f"GRANT USAGE ON SCHEMA {schema} TO stranger")
        line = refused(site.start("worker", postgres.url(schema, "stranger")))
        assert "permission denied" in line
    finally:
        postgres.execute("DROP OWNED BY stranger", "DROP ROLE stranger")


def test_a_worker_of_another_version_of_the_problem_refuses(site: Site) -> None:
    search = site.search(1)
    assert search.stdout is not None
    while "waiting for a free worker" not in search.stdout.readline():
        pass  # the user is told what to do
    other = site.folder / "elsewhere"
    other.mkdir()
    (other / "space.toml").write_text(SPACE.replace("choices = [0, 1, 2, 3]", "choices = [0, 1]"))
    deadline = time.monotonic() + 60
    worker = site._python("-m", "lm_searcher.agent", "worker", site.url, cwd=other)
    assert worker.stdout is not None
    while "another space" not in worker.stdout.readline():
        assert time.monotonic() < deadline
    right = site.worker()
    succeed(search)
    site.each_once(1)
    end(right)
    end(worker)


def test_a_search_in_python_is_refused(postgres: Postgres) -> None:
    search = Search(
        {"a": [0, 1]}, lambda config: 1.0, executor="queue", store=postgres.url(), trials=1
    )
    with pytest.raises(ConfigError, match="run file"):
        search.run()
