"""Evaluations in processes of their own: what goes wrong in one stays in it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lm_searcher.spaces.errors import EvaluatorError
from lm_searcher.spaces.history import TrialState
from lm_searcher.tools.devices import SHARE
from lm_searcher.tools.evaluators.function import FunctionEvaluator
from lm_searcher.tools.executors.local import LocalExecutor
from lm_searcher.tools.protocols import Cancelled, Evaluation, Outcome


def evaluations(*configs: dict[str, Any]) -> list[Evaluation]:
    return [Evaluation(i, str(i), config, seed=i) for i, config in enumerate(configs)]


@contextlib.contextmanager
def executor(function: Callable[..., Any] | str, **options: Any) -> Iterator[LocalExecutor]:
    with contextlib.closing(LocalExecutor(FunctionEvaluator(function), **options)) as made:
        yield made


def outcomes(
    function: Callable[..., Any],
    *configs: dict[str, Any],
    report: Callable[[Evaluation, int, float], bool] = lambda *_: False,
    **options: Any,
) -> list[Outcome]:
    """What became of each, by number."""
    with executor(function, **options) as running:
        found = {e.key: o for e, o in running.run(evaluations(*configs), report)}
    return [found[key] for key in sorted(found)]


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] != "Z"
    except OSError:
        return False


def await_end(pid: int) -> None:
    deadline = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


def misbehave(config: dict[str, Any]) -> Any:
    """Goes wrong in the way that it is told to."""
    how = config["how"]
    if how == "raise":
        raise ValueError("two\nlines")
    if how == "hang":
        while True:
            time.sleep(1)
    if how == "hang and ignore":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(1)
    if how == "exit":
        sys.exit(3)
    if how == "exit at once":
        os._exit(4)
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "memory":
        return len(bytearray(10**12))
    return {"good": 1.5, "nan": float("nan"), "string": "0.9", "nothing": None}[how]


REASONS = {
    "raise": "ValueError: two lines",
    "hang": "timed out after 1 s",
    "hang and ignore": "timed out after 1 s",
    "exit": "exited with code 3 before it returned a result",
    "exit at once": "exited with code 4 before it returned a result",
    "segfault": "killed by SIGSEGV",
    "killed": "killed by SIGKILL (out of memory?)",
    "memory": "out of memory",
    "nan": "'value' is nan (float), not a finite number",
    "string": "the evaluator returned '0.9' (str); "
    "accepted: a number, or a dict of metric -> number",
    "nothing": "the evaluator returned None (NoneType); "
    "accepted: a number, or a dict of metric -> number",
}


@pytest.mark.parametrize("workers", [1, 3])
def test_whatever_goes_wrong_is_the_reason_and_the_next_goes_on(workers: int) -> None:
    hows = [how for bad in REASONS for how in (bad, "good")]
    found = outcomes(
        misbehave, *({"how": how} for how in hows), workers=workers, seconds=1, memory=2**31
    )
    assert [o.reason for o in found[::2]] == list(REASONS.values())
    assert all(not o.metrics for o in found[::2])
    assert [(o.reason, o.metrics) for o in found[1::2]] == [(None, {"value": 1.5})] * len(REASONS)


def test_several_run_at_once_and_each_in_a_process_of_its_own(tmp_path: Path) -> None:
    def meet(config: dict[str, Any]) -> dict[str, float]:
        (tmp_path / config["me"]).touch()
        while not (tmp_path / config["other"]).exists():  # for ever, unless both run
            time.sleep(0.01)
        return {"value": 1.0, "pid": os.getpid()}

    pairs = [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")]
    found = outcomes(
        meet, *({"me": me, "other": other} for me, other in pairs), workers=2, seconds=20
    )
    assert [o.reason for o in found] == [None] * 4
    assert len({o.metrics["pid"] for o in found} | {os.getpid()}) == 5


def test_reports_arrive_in_order_and_are_answered() -> None:
    def train(config: dict[str, Any], report: Callable[[int, float], bool]) -> float:
        for epoch in range(1, 6):
            if report(epoch, epoch / 10):
                return epoch / 10
        return 1.0

    seen: list[tuple[int, int, float]] = []

    def stop_the_second_at_two(evaluation: Evaluation, step: int, value: float) -> bool:
        seen.append((evaluation.key, step, value))
        return evaluation.key == 1 and step == 2

    whole, stopped = outcomes(train, {}, {}, report=stop_the_second_at_two)
    assert (whole.metrics, whole.stopped) == ({"value": 1.0}, False)
    assert (stopped.metrics, stopped.stopped) == ({"value": 0.2}, True)
    assert seen == [(0, e, e / 10) for e in range(1, 6)] + [(1, 1, 0.1), (1, 2, 0.2)]


def test_each_worker_has_its_device_and_its_share_of_threads() -> None:
    def look(config: dict[str, Any]) -> dict[str, float]:
        time.sleep(0.2)  # so that both workers get one
        threads = float(os.environ["OMP_NUM_THREADS"])
        return {"value": float(os.environ["CUDA_VISIBLE_DEVICES"]), "threads": threads}

    found = outcomes(look, {}, {}, workers=2, devices=["4", "7"])
    assert {o.metrics["value"] for o in found} == {4.0, 7.0}
    assert {o.metrics["threads"] for o in found} == {max(1, (os.cpu_count() or 1) // 2)}


def test_workers_on_one_device_share_its_memory() -> None:
    def look(config: dict[str, Any]) -> float:
        time.sleep(0.2)  # so that all workers get one
        return float(os.environ.get(SHARE, 1))

    found = outcomes(look, {}, {}, {}, {}, workers=3, devices=["4", "7"])
    assert {o.metrics["value"] for o in found} == {0.45, 1.0}  # two on the first


def test_what_an_evaluation_started_ends_with_it(tmp_path: Path) -> None:
    def start(config: dict[str, Any]) -> int:
        child = subprocess.Popen(["sleep", "600"])
        (tmp_path / config["name"]).write_text(str(child.pid))
        while config["hang"]:
            time.sleep(1)
        return child.pid

    configs = [{"name": "left", "hang": False}, {"name": "hung", "hang": True}]
    outcomes(start, *configs, seconds=1)
    for name in ("left", "hung"):
        await_end(int((tmp_path / name).read_text()))


def test_nothing_outlives_a_controller_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "controller.py"
    script.write_text(
        "import os, subprocess, time\n"
        "from lm_searcher.tools.evaluators.function import FunctionEvaluator\n"
        "from lm_searcher.tools.executors.local import LocalExecutor\n"
        "from lm_searcher.tools.protocols import Evaluation\n"
        "def hang(config):\n"
        "    child = subprocess.Popen(['sleep', '600'])\n"
        "    print(os.getppid(), os.getpid(), child.pid, flush=True)\n"
        "    time.sleep(600)\n"
        "executor = LocalExecutor(FunctionEvaluator(hang))\n"
        "list(executor.run([Evaluation(0, '0', {}, 0)], lambda *_: False))\n"
    )
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=None, stderr=subprocess.PIPE, text=True) as controller:
        assert controller.stderr is not None  # where evaluations print without a log
        pids = [int(pid) for pid in controller.stderr.readline().split()]
        assert len(pids) == 3 and all(map(alive, pids))
        controller.kill()
    for pid in pids:
        await_end(pid)


def test_a_killed_worker_fails_its_evaluation_and_is_replaced() -> None:
    def kill_the_worker(config: dict[str, Any]) -> float:
        if config["kill"]:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)
        return 1.0

    killed, after = outcomes(kill_the_worker, {"kill": True}, {"kill": False})
    assert killed.reason == "the worker process was killed"
    assert after.metrics == {"value": 1.0}


def test_cancelling_ends_what_runs(tmp_path: Path) -> None:
    def hang(config: dict[str, Any], report: Callable[[int, float], bool]) -> float:
        (tmp_path / "pid").write_text(str(os.getpid()))
        report(1, 0.0)
        time.sleep(600)
        return 1.0

    with executor(hang) as running, pytest.raises(Cancelled):

        def cancel(*_: object) -> bool:
            running.cancel()
            return False

        list(running.run(evaluations({}), cancel))
    await_end(int((tmp_path / "pid").read_text()))


def test_an_evaluator_that_does_not_start_is_told(tmp_path: Path) -> None:
    with pytest.raises(EvaluatorError, match="cannot import 'no_such_module'"):
        LocalExecutor(FunctionEvaluator("no_such_module:f"))


def test_prints_and_tracebacks_go_to_the_log(tmp_path: Path) -> None:
    def talk(config: dict[str, Any]) -> float:
        print("as it trains")
        raise KeyError("lost")

    log = tmp_path / "deeper" / "run.log"
    (failed,) = outcomes(talk, {}, log=log)
    assert failed.reason == "KeyError: 'lost'"
    assert "as it trains" in log.read_text() and "Traceback" in log.read_text()


def test_states_of_trials_still_to_come() -> None:
    assert [s for s in TrialState if not s.finished] == [TrialState.WAITING, TrialState.RUNNING]
